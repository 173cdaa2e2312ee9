package main

import (
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

func TestPendingKeysAreToldOfDrivesThatMayReturn(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	j := judgement{now: now}
	j.shelf.Machines = []rotation.ShelfMachine{{ID: "m", Name: "web"}}
	for _, state := range []custody.State{custody.Offsite, custody.Quarantined, custody.Lost, custody.Retired} {
		d := rotation.ShelfDrive{Drive: lifeboat.Drive{ID: string(state), Label: string(state)}, Place: custody.Place{State: state}, PendingKeys: 1}
		if state == custody.Offsite {
			d.Points = []rotation.ShelfPoint{{ID: "p", MachineID: "m", TakenAt: now.Add(-time.Hour), VerifiedAt: now}}
		}
		j.shelf.Drives = append(j.shelf.Drives, d)
	}
	j.decision = rotation.Decide(now, j.policy, j.shelf)
	page := strings.Join(strings.Fields(j.statusPage()), " ")
	if !strings.Contains(page, "remember: drive offsite, which has the newest copies offsite, has 1 key change pending") {
		t.Errorf("status does not warn of the newest drive offsite:\n%s", page)
	}
	if told := j.pendingKeys(); len(told) != 2 || !strings.HasPrefix(told[1], "drive quarantined has") {
		t.Errorf("told of %q", told)
	}
	if list := strings.Join(j.decision.Reminders, "\n"); !strings.Contains(list, "on drive offsite, which has the newest copy of") {
		t.Errorf("the checklist does not remember it: %q", list)
	}
}
