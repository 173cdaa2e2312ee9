package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lifeboat"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

// missingProgram is a program that a drive does not get.
type missingProgram struct{ platform, why string }

// programs finds the static programs that a drive carries: beside this one, or
// in the folder that `make install` put them into.
func (a *app) programs() (found []rotation.ProgramSource, missing []missingProgram) {
	self, err := os.Executable()
	if err != nil {
		self = "lifeboat"
	}
	here := filepath.Dir(self)
	for _, arch := range []string{"amd64", "arm64"} {
		name := "lifeboat-linux-" + arch
		path := ""
		for _, dir := range []string{here, filepath.Join(here, "rescue"), filepath.Join(here, "..", "lib", "lifeboat")} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				path = filepath.Join(dir, name)
				break
			}
		}
		if path == "" {
			missing = append(missing, missingProgram{"linux/" + arch, fmt.Sprintf("%s is not beside %s (make build makes it)", name, self)})
			continue
		}
		found = append(found, rotation.ProgramFile(arch, path))
	}
	return found, missing
}

// refreshPrograms looks, before an export, whether the programs on the drive
// are those of this version, and writes them again where they are not: a drive
// must be able to read what is about to be written to it.
func (a *app) refreshPrograms(d *openedDrive) error {
	sources, _ := a.programs()
	if len(sources) == 0 {
		return nil
	}
	dir, err := durable.OpenOS(d.found.Path, false)
	if err != nil {
		return fmt.Errorf("look at the programs of %s: %w", d.name(), err)
	}
	defer closeDir(dir)
	findings, err := rotation.CheckPrograms(dir, sources)
	if err != nil {
		return fmt.Errorf("look at the programs of %s: %w", d.name(), err)
	}
	stale := false
	for _, f := range findings {
		switch f.State {
		case rotation.ProgramMissing, rotation.ProgramOther:
			stale = true
		case rotation.ProgramForeign:
			a.warn("%s carries a program that is not Lifeboat's: %s", d.name(), f.File)
		}
	}
	if !stale {
		return nil
	}
	if _, err := rotation.WritePrograms(dir, sources); err != nil {
		return fmt.Errorf("write the programs of %s: %w", d.name(), err)
	}
	a.warn("the programs on %s were not those of this version and were written again; print its recovery sheet anew: lifeboat key sheet --drive %s",
		d.name(), shellWord(d.found.Drive.Label))
	return nil
}

// checkPrograms compares the programs on a drive with those of this version, by
// reading them from the medium.
func (a *app) checkPrograms(d *openedDrive) ([]rotation.ProgramFinding, error) {
	sources, _ := a.programs()
	dir, err := durable.OpenOS(d.found.Path, true)
	if err != nil {
		return nil, fmt.Errorf("look at the programs of %s: %w", d.name(), err)
	}
	defer closeDir(dir)
	findings, err := rotation.CheckPrograms(dir, sources)
	if err != nil {
		return nil, fmt.Errorf("look at the programs of %s: %w", d.name(), err)
	}
	if findings == nil {
		findings = []rotation.ProgramFinding{}
	}
	return findings, nil
}

// programWords says what checkPrograms found.
func programWords(findings []rotation.ProgramFinding) string {
	says := map[rotation.ProgramState]string{
		rotation.ProgramRight:   "is that of this version",
		rotation.ProgramMissing: "is missing; the next export writes it",
		rotation.ProgramOther:   "is another version's or damaged; the next export writes it again",
		rotation.ProgramForeign: "is not Lifeboat's: do not run it",
	}
	var words []string
	for _, f := range findings {
		words = append(words, f.File+" "+says[f.State])
	}
	if len(words) == 0 {
		return "not compared: this computer has none of its own beside lifeboat (make build makes them)"
	}
	return strings.Join(words, "; ")
}

// sheetFacts collects what the recovery sheet of a drive says. The hashes are
// those of this computer's programs: a drive proves nothing about itself.
func (a *app) sheetFacts(found rotation.Found) (rotation.SheetFacts, error) {
	facts := rotation.SheetFacts{Drive: found.Drive, Filesystem: found.Filesystem, Version: version, PrintedAt: a.now()}
	site, err := a.siteOrNone()
	if err != nil {
		return facts, err
	}
	if site != nil {
		facts.Contact = site.Site.Contact
		if site.Site.NameOnDrives {
			facts.CompanyName = site.Site.Name
		}
	}
	sources, missing := a.programs()
	if len(sources) == 0 {
		var why []string
		for _, m := range missing {
			why = append(why, m.platform+": "+m.why)
		}
		return facts, &lifeboat.Problem{
			What: "a sheet needs the hashes of the programs, and there are none: " + list(why),
			Safe: "nothing was changed; the drive itself is not asked, because it proves nothing about itself",
			Next: "print the sheet with an installed lifeboat, or one from: make build",
		}
	}
	facts.Programs, err = rotation.HashPrograms(sources)
	return facts, err
}
