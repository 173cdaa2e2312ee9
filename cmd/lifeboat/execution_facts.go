package main

import (
	"context"
	"fmt"
	"slices"

	"lifeboat/blockdev"
	"lifeboat/runbook"
)

// hostRecords are the hosts of the plan as they are, not as far as the plan may use
// them.
func (x *execution) hostRecords() (all []runbook.HostRecord) {
	for _, h := range x.plan.Hosts {
		r := runbook.HostRecord{Name: h.Name, Kind: h.Kind, KVM: h.KVM}
		if i := slices.IndexFunc(x.hosts, func(known runbook.KnownHost) bool { return known.Name == h.Name }); i >= 0 {
			r.CPUs, r.MemoryBytes = x.hosts[i].CPUs, x.hosts[i].TotalMemoryBytes
		}
		all = append(all, r)
	}
	return all
}

// driveRecord says which drive a run reads, and what is known of it. What this
// computer does not know stays empty: that is what the report says then.
func (x *execution) driveRecord(ctx context.Context, d runbook.PlannedDrive) runbook.DriveRecord {
	r := runbook.DriveRecord{ID: d.ID, Label: d.Label, Custody: d.Where}
	if disk, err := blockdev.OfMount(d.Path); d.Path != "" && err == nil && !disk.System() {
		r.Model = oneLine(plainText(disk.Model))
		if disk.LinkMbit > 0 {
			r.Link = fmt.Sprintf("USB, %d Mbit/s", disk.LinkMbit)
		}
	}
	cat := x.a.knownSite(ctx)
	if cat == nil {
		return r
	}
	if known, err := cat.Drive(ctx, d.ID); err == nil {
		r.VerifiedAt = known.VerifiedAt
	}
	if facts, err := cat.Facts(ctx, d.ID); err == nil && r.Model == "" && len(facts) > 0 {
		r.Model = oneLine(plainText(facts[len(facts)-1].Model))
	}
	if head, err := cat.LedgerHead(ctx); err == nil && head.Sequence > 0 {
		r.LedgerHead = fmt.Sprintf("%d %s", head.Sequence, head.Hash)
	}
	return r
}

// countReads writes into a record what the run read from each drive.
func (x *execution) countReads(r *runbook.Record) {
	serving, err := readServing(x.run.dir)
	if err != nil {
		return
	}
	for _, d := range serving.Drives {
		for i := range r.Drives {
			if r.Drives[i].ID == d.DriveID {
				r.Drives[i].ReadBytes = d.ReadBytes
			}
		}
	}
}
