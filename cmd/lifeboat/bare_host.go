package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"lifeboat"
)

// lookAtBareHost says what a computer offers that has no site, such as a machine
// that was rented an hour ago: QEMU, virtualisation, firmware, memory, space. What
// is missing to start machines at all is an error with the one command that
// installs it. What only makes them slow, or too many, is for the plan to judge.
func (a *app) lookAtBareHost(ctx context.Context) error {
	s, err := a.siteOrNone()
	if err != nil {
		return err
	}
	files := a.hostFiles(s)
	if len(files) > 1 {
		return nil // somebody told this computer which hosts to use
	}
	if err := needQEMU(); err != nil {
		return err
	}
	host, err := a.openHost(files[0])
	if err != nil {
		return err
	}
	var rows [][]string
	for _, f := range host.Check(ctx) {
		if f.What == "KVM" && !f.OK {
			f.Detail += whyNoKVM(cpuFlags())
		}
		state := "yes"
		if !f.OK {
			state = "no"
		}
		rows = append(rows, []string{f.What, state, f.Detail})
	}
	rows = append(rows, []string{"clock", "", stamp(a.now()) + ": if that is not so, set it before you go on"})
	a.note("this computer:\n%s", strings.TrimRight(table([]string{"WHAT", "", "FOUND"}, rows), "\n"))
	return nil
}

// cpuFlags are what the first processor says that it can.
func cpuFlags() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			return flags
		}
	}
	return ""
}

// whyNoKVM says, by the flags of the processor, what may give this computer
// hardware virtualisation.
func whyNoKVM(flags string) string {
	for _, flag := range strings.Fields(flags) {
		switch flag {
		case "vmx":
			return "; the processor can do it, so try: modprobe kvm_intel"
		case "svm":
			return "; the processor can do it, so try: modprobe kvm_amd"
		}
	}
	return "; the processor does not offer it: switch it on in the firmware, or rent a whole machine in place of a virtual one"
}

// offerSecondCopy is the first thing on a bare host: what is in the hand may be the
// last copy there is. Nobody is asked where nobody is, or wants to be.
func (a *app) offerSecondCopy(ctx context.Context, d *openedDrive, ask bool) error {
	if !ask || !isTerminal(a.stdin) {
		a.warn("drive %s may be the last copy there is: make a second one soon: lifeboat copy --latest --from %s --to FOLDER", d.found.Drive.Label, shellWord(d.found.Path))
		return nil
	}
	folder, err := a.typeLine(ctx, fmt.Sprintf("Drive %s may be the last copy there is. To copy its newest points first, type an empty folder on another disk (nothing: go on without): ", d.found.Drive.Label))
	if err != nil || folder == "" {
		return err
	}
	points, faults, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	a.warnFaults(d, faults)
	var ids []string
	for _, p := range lifeboat.Newest(points) {
		ids = append(ids, p.ID)
	}
	return a.secondCopy(ctx, d, folder, ids)
}
