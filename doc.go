// Package lifeboat holds the nouns that every room of the program says: a
// machine and its disks, an extent of a disk, a restore point, a drive, and the
// three lines that an operator reads when something went wrong.
//
// It imports the standard library only and does no I/O. A noun starts beside
// its verbs and moves here only when two rooms that may not know each other
// must both say it.
package lifeboat
