package main

import (
	"fmt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// cannotExport says why a machine is not exported, or is nil.
func cannotExport(site *siteFile, m machineOn, all []machineOn) error {
	if m.Refused != "" {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s cannot be exported: %s", m.Machine.Name, m.Refused),
			Safe: "nothing was done to it; points that it has are whole",
			Next: "change that on its host, or leave it out: name it under exclude in site.yaml",
			Err:  hypervisor.ErrUnsupported,
		}
	}
	if twin := twinOf(site, m, all); twin != "" {
		return twinProblem(m, twin)
	}
	return nil
}

// twinOf names another machine that has the same id, or is "". A machine that
// was copied together with its definition would share one history with the
// original, and each export would pass for the other's. One that runs from a
// drive, or is left out, is exported by nobody.
func twinOf(site *siteFile, m machineOn, all []machineOn) string {
	for _, other := range all {
		same := other.Machine.ID == m.Machine.ID && (other.host.Name() != m.host.Name() || other.HostID != m.HostID)
		if same && other.Recovery == "" && site.leftOut(other.host.Name(), other.Machine.Name) == "" {
			return other.host.Name() + "/" + other.Machine.Name
		}
	}
	return ""
}

func twinProblem(m machineOn, twin string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s has the same id as %s: one is a copy of the other", m.Machine.Name, twin),
		Safe: "neither was exported; the points of the original are whole",
		Next: "let the copy begin a history of its own: lifeboat machine link HOST/COPY --new; or leave it out: exclude in site.yaml",
	}
}
