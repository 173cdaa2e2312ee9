// Command bench measures Lifeboat beside the tools that a user would otherwise
// pick, on the disks of three real Debian machines, all in one run: a ratio
// between two figures of one run holds on other computers too, the figures
// themselves do not.
//
// It drives every tool as its manual says, compares every restored byte with
// the source, prints what it is doing and a table at the end, and writes
// bench/latest.json and docs/reference/benchmarks.md. It never touches anything
// outside its work folder and the folder of the disks.
package main
