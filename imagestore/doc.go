// Package imagestore keeps one drive's worth of images: the blocks of disks and
// the restore points that name them.
//
// It owns everything below the store folder of a drive. It promises that a
// restore point it lists is whole or is reported as damaged, that no wrong byte
// is ever returned as a right one, that a power cut leaves the points that were
// there before, and that a drive is unreadable without one of its secrets.
//
// It never changes a file in place, never chooses what to forget, never waits
// for another program's lock, and writes nothing at all to a read-only drive.
// The bytes are described in docs/format.md; that document is the law, this
// package follows it.
package imagestore
