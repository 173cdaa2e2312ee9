package rotation

import (
	"context"

	"lifeboat/blockdev"
	"lifeboat/internal/durable"
)

// What the tests look at from inside.
var (
	StartHereText = startHere
	ParseMounts   = func(data []byte) []mount { return asMounts(blockdev.ParseMounts(data)) }
	LookOne       = lookOne
	MayBeDrive    = mount.mayBeDrive
)

// Commands are the lines that the sheet has the reader type.
func Commands(f SheetFacts) []string {
	var all []string
	for _, s := range recoverySteps(f) {
		all = append(all, s.Commands...)
	}
	return all
}

// InitDir is Init on a folder that is not one of the operating system.
func InitDir(ctx context.Context, dir durable.Dir, id string, o InitOptions) error {
	n := note{Layout: LayoutVersion, ID: id, Label: o.Label, SiteID: o.SiteID, CreatedAt: o.Now.UTC(), Contact: o.Contact}
	return writeDrive(ctx, dir, n, "", o)
}

// IdentifyDir is Identify of such a folder.
func IdentifyDir(dir durable.Dir) (Kind, string) {
	n, err := readNote(dir)
	if err == nil {
		return KindDrive, n.ID
	}
	kind, id, _ := withoutNote(dir, err)
	return kind, id
}

// NoteAgain decodes drive.json and encodes what it understood.
func NoteAgain(data []byte) ([]byte, error) {
	n, err := decodeNote(data)
	if err != nil {
		return nil, err
	}
	return encodeNote(n), nil
}

// MountFields takes a mount apart.
func MountFields(m mount) (point, source, filesystem string) { return m.Point, m.Source, m.Filesystem }
