package rotation_test

import (
	"errors"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/rotation"
)

func found(kind rotation.Kind, label, id, path string) rotation.Found {
	return rotation.Found{Kind: kind, Path: path, Drive: lifeboat.Drive{ID: id, Label: label, SiteID: siteID}}
}

func TestSelectTakesTheDriveThatWasMeantOrSaysWhatItSees(t *testing.T) {
	a, b := found(rotation.KindDrive, "A", idA, "/mnt/a"), found(rotation.KindDrive, "B", idB, "/mnt/b")
	alsoA := found(rotation.KindDrive, "A", idB, "/mnt/c")
	copyOfA := found(rotation.KindDrive, "A", idA, "/mnt/d")
	hurt := found(rotation.KindHurt, "", idB, "/mnt/h")
	newer := found(rotation.KindNewer, "", "", "/mnt/n")
	silent := found(rotation.KindSilent, "", "", "/mnt/s")
	unfinished := found(rotation.KindUnfinished, "", "", "/mnt/u")
	folder := t.TempDir()
	if _, err := rotation.Init(t.Context(), folder, options("F")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		seen []rotation.Found
		want string
		path string
		err  error
		says string
	}{
		"the only one":           {[]rotation.Found{a}, "", "/mnt/a", nil, ""},
		"the only one, hurt":     {[]rotation.Found{hurt, silent}, "", "/mnt/h", nil, ""},
		"the only usable one":    {[]rotation.Found{newer, a, unfinished}, "", "/mnt/a", nil, ""},
		"by label":               {[]rotation.Found{a, b}, "B", "/mnt/b", nil, ""},
		"by id":                  {[]rotation.Found{a, b}, idB, "/mnt/b", nil, ""},
		"by path":                {[]rotation.Found{a, alsoA}, "/mnt/c/", "/mnt/c", nil, ""},
		"by a path not seen":     {[]rotation.Found{a}, folder, folder, nil, ""},
		"none":                   {nil, "", "", lifeboat.ErrNoDrive, "no drive is seen | attach a drive"},
		"several, none named":    {[]rotation.Found{a, b}, "", "", lifeboat.ErrNoDrive, "2 drives are attached and none was named; seen: A (aaaaaaaa, /mnt/a), B (bbbbbbbb, /mnt/b) | name one: --drive LABEL"},
		"two with one label":     {[]rotation.Found{a, alsoA}, "A", "", lifeboat.ErrNoDrive, `2 drives answer to "A" | two have the same label; name one by its path`},
		"a copy":                 {[]rotation.Found{a, copyOfA}, "A", "", lifeboat.ErrNoDrive, "one is a copy of the other | detach the copy"},
		"a copy, none named":     {[]rotation.Found{a, copyOfA}, "", "", lifeboat.ErrNoDrive, "at /mnt/a and at /mnt/d | detach the copy"},
		"a label not seen":       {[]rotation.Found{a}, "C", "", lifeboat.ErrNoDrive, `no drive "C" is attached; seen: A (aaaaaaaa, /mnt/a) | attach drive C`},
		"a label of a hurt one":  {[]rotation.Found{hurt, a}, "C", "", lifeboat.ErrNoDrive, `a drive without a readable label | its label back: lifeboat repair /mnt/h`},
		"a path that is none":    {[]rotation.Found{a}, t.TempDir(), "", lifeboat.ErrWrongDrive, "is not a Lifeboat drive | START-HERE.txt"},
		"a path that is nowhere": {[]rotation.Found{a}, "/no/such/folder", "", lifeboat.ErrNoDrive, "there is no folder /no/such/folder | mount the drive there"},
		"newer":                  {[]rotation.Found{newer}, "", "", lifeboat.ErrWrongDrive, "newer version | the program that the drive itself carries, in /mnt/n/lifeboat/bin"},
		"newer, by path":         {[]rotation.Found{a, newer}, "/mnt/n", "", lifeboat.ErrWrongDrive, "newer version"},
		"silent":                 {[]rotation.Found{silent}, "", "", lifeboat.ErrDriveGone, "does not answer | cable"},
		"unfinished":             {[]rotation.Found{unfinished}, "", "", lifeboat.ErrWrongDrive, "interrupted | lifeboat drive init /mnt/u"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := rotation.Select(c.seen, c.want)
			if !errors.Is(err, c.err) || got.Path != c.path {
				t.Fatalf("%s, %v", got.Path, err)
			}
			if err == nil {
				return
			}
			var p *lifeboat.Problem
			if !errors.As(err, &p) || p.Safe == "" {
				t.Fatalf("no problem: %v", err)
			}
			for _, part := range strings.Split(c.says, " | ") {
				if !strings.Contains(p.What+"\n"+p.Next, part) {
					t.Errorf("the operator reads\n%s\n%s\nwithout %q", p.What, p.Next, part)
				}
			}
		})
	}
}
