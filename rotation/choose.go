package rotation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lifeboat"
)

const nothingChanged = "nothing was changed"

// Select returns the drive that was meant. want is a label, an id or a path; a
// path need not be among those found. Without it the one attached drive is
// meant. Anything else is a [lifeboat.Problem] that says what is seen and wraps
// lifeboat.ErrNoDrive or lifeboat.ErrWrongDrive.
func Select(found []Found, want string) (Found, error) {
	if want == "" {
		return onlyOne(found)
	}
	var matches []Found
	for _, f := range found {
		if f.Usable() && (f.Drive.Label == want || f.Drive.ID == want) || f.Path == filepath.Clean(want) {
			matches = append(matches, f)
		}
	}
	switch len(matches) {
	case 0:
		if info, err := os.Stat(want); strings.ContainsRune(want, '/') || err == nil && info.IsDir() {
			return at(want)
		}
		next := fmt.Sprintf("attach drive %s and mount it, or name its folder: --drive PATH", want)
		for _, f := range found {
			if f.Kind == KindHurt {
				next += fmt.Sprintf("; or give the one at %s its label back: lifeboat repair %s", f.Path, f.Path)
				break
			}
		}
		return Found{}, &lifeboat.Problem{
			What: fmt.Sprintf("no drive %q is attached; %s", want, seen(found)),
			Safe: nothingChanged,
			Next: next,
			Err:  lifeboat.ErrNoDrive,
		}
	case 1:
		return usable(matches[0])
	}
	return Found{}, several(matches, fmt.Sprintf("%d drives answer to %q", len(matches), want))
}

func onlyOne(found []Found) (Found, error) {
	var drives []Found
	for _, f := range found {
		if f.Usable() {
			drives = append(drives, f)
		}
	}
	switch {
	case len(drives) == 1:
		return drives[0], nil
	case len(drives) > 1:
		return Found{}, several(drives, fmt.Sprintf("%d drives are attached and none was named", len(drives)))
	case len(found) == 1:
		return usable(found[0])
	}
	return Found{}, &lifeboat.Problem{
		What: "no drive is attached; " + seen(found),
		Safe: nothingChanged,
		Next: "attach a drive and mount it, or name its folder: --drive PATH",
		Err:  lifeboat.ErrNoDrive,
	}
}

// several asks for the word that tells the drives apart: the label, or the path
// where two have one label.
func several(drives []Found, what string) error {
	next := "name one: --drive LABEL"
	for i, a := range drives {
		for _, b := range drives[:i] {
			switch {
			case a.Drive.ID == b.Drive.ID && a.Drive.ID != "":
				what += fmt.Sprintf(" (drive %s is there twice, at %s and at %s: one is a copy of the other)", a.Drive.Label, b.Path, a.Path)
				next = "detach the copy, or name one by its path: --drive PATH"
			case a.Drive.Label == b.Drive.Label:
				next = "two have the same label; name one by its path: --drive PATH"
			}
		}
	}
	return &lifeboat.Problem{
		What: what + "; " + seen(drives),
		Safe: nothingChanged,
		Next: next,
		Err:  lifeboat.ErrNoDrive,
	}
}

// at identifies a path that a person typed.
func at(path string) (Found, error) {
	f, err := Identify(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Found{}, &lifeboat.Problem{
			What: fmt.Sprintf("there is no folder %s", path),
			Safe: nothingChanged,
			Next: "mount the drive there, or name another folder: --drive PATH",
			Err:  lifeboat.ErrNoDrive,
		}
	}
	if errors.Is(err, lifeboat.ErrDriveGone) {
		f, err = Found{Path: path, Kind: KindSilent, Note: err.Error()}, nil
	}
	if err != nil {
		return Found{}, err
	}
	return usable(f)
}

// usable refuses what is no drive that this program can work with.
func usable(f Found) (Found, error) {
	p := &lifeboat.Problem{Safe: nothingChanged, Err: lifeboat.ErrWrongDrive}
	switch f.Kind {
	case KindDrive, KindHurt:
		return f, nil
	case KindNewer:
		p.What = fmt.Sprintf("the drive at %s was made by a newer version of Lifeboat", f.Path)
		p.Next = "use the program that the drive itself carries, in " + filepath.Join(f.Path, BinFolder)
	case KindUnfinished:
		p.What = fmt.Sprintf("the drive at %s was never finished: making it was interrupted", f.Path)
		p.Next = fmt.Sprintf("run again: lifeboat drive init %s --label LABEL", f.Path)
	case KindSilent:
		p.What = fmt.Sprintf("the medium at %s does not answer (%s)", f.Path, f.Note)
		p.Next = "check its cable or its server, or attach another drive"
		p.Err = lifeboat.ErrDriveGone
	default:
		p.What = fmt.Sprintf("%s is not a Lifeboat drive", f.Path)
		p.Next = fmt.Sprintf("name the folder that holds %s, or make a drive: lifeboat drive init %s --label LABEL", StartHere, f.Path)
	}
	return Found{}, p
}

// seen lists drives for a message.
func seen(found []Found) string {
	var list []string
	for _, f := range found {
		name := f.Drive.Label
		if name == "" {
			name = "a drive without a readable label"
		}
		if f.Kind == KindSilent {
			name = "a medium that does not answer"
		}
		list = append(list, fmt.Sprintf("%s (%s, %s)", name, short(f.Drive.ID), f.Path))
	}
	if len(list) == 0 {
		return "no drive is seen"
	}
	return "seen: " + strings.Join(list, ", ")
}
