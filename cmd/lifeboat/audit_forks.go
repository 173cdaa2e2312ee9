package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
)

// ledgerStep begins the id under which a person says that another ledger was
// looked into; the first 16 digits of its head's hash follow.
const ledgerStep = "ledger/"

// auditFork is another ledger of this site, as an audit shows it.
type auditFork struct {
	catalog.Fork
	// Drive is the label of the drive that it was found on, if that is known.
	Drive string `json:"drive,omitempty"`
	// OursSays and TheirsSays are the first entries that differ, in words.
	OursSays   string `json:"oursSays"`
	TheirsSays string `json:"theirsSays"`
	// Step is what a person signs who looked into it; SettledBy and SettledAt are
	// who did, and when.
	Step      string    `json:"step"`
	SettledBy string    `json:"settledBy,omitempty"`
	SettledAt time.Time `json:"settledAt,omitzero"`

	// chain are its entries from the first that differs on.
	chain []custody.Entry
}

// auditForks are the ledgers that say something else than ours, as they are
// remembered, each with who looked into it.
func (a *app) auditForks(ctx context.Context, cat *catalog.Catalog, ours []custody.Line) ([]auditFork, error) {
	stored, err := cat.Forks(ctx)
	if err != nil || len(stored) == 0 {
		return nil, err
	}
	drives, err := cat.Drives(ctx)
	if err != nil {
		return nil, err
	}
	steps := map[string]custody.Step{}
	// A ledger that does not hold settles nothing.
	if entries, err := cat.Ledger(ctx); err == nil {
		steps = custody.Replay(entries).Steps
	} else if !errors.Is(err, custody.ErrBroken) {
		return nil, err
	}
	var all []auditFork
	for _, f := range stored {
		x := auditFork{Fork: f, Step: ledgerStep + short16(f.Head)}
		if i := slices.IndexFunc(drives, func(d catalog.Drive) bool { return d.ID == f.DriveID }); i >= 0 {
			x.Drive = drives[i].Label
		}
		if n := f.FirstDiffers; n >= 1 && n <= uint64(len(ours)) {
			e, _ := custody.Decode(ours[n-1].Text)
			x.OursSays = entryWords(e)
		}
		theirs, _ := custody.Read(strings.NewReader(f.Text))
		if n := f.FirstDiffers; n >= 1 && n <= uint64(len(theirs)) {
			x.chain, x.TheirsSays = theirs[n-1:], entryWords(theirs[n-1])
		}
		if s, ok := steps[x.Step]; ok {
			x.SettledBy, x.SettledAt = s.Signer, s.At
		}
		all = append(all, x)
	}
	return all, nil
}

// short16 are the digits of a hash that a person types.
func short16(hash string) string { return hash[:min(16, len(hash))] }

// knows says that a head is one of the entries in which the other ledger differs.
func (f auditFork) knows(h custody.Head) bool {
	return slices.ContainsFunc(f.chain, func(e custody.Entry) bool {
		return e.Sequence == h.Sequence && custody.HashOf(custody.Encode(e)) == h.Hash
	})
}

// withoutForks leaves out the heads of ledgers that are shown as other ledgers.
func withoutForks(witnesses []custody.Witness, forks []auditFork) []custody.Witness {
	return slices.DeleteFunc(slices.Clone(witnesses), func(w custody.Witness) bool {
		return slices.ContainsFunc(forks, func(f auditFork) bool { return f.knows(w.Head) })
	})
}

// on names the drive that it was found on.
func (f auditFork) on() string {
	if f.Drive == "" {
		return "drive " + short(f.DriveID)
	}
	return "drive " + f.Drive + " (" + short(f.DriveID) + ")"
}

// lines are the other ledger as a person reads it.
func (f auditFork) lines(ours custody.Head) string {
	var out strings.Builder
	mark := "wrong:  "
	if f.SettledBy != "" {
		mark = "remark: "
	}
	fmt.Fprintf(&out, "%sanother ledger, found on %s on %s, differs from entry %d on\n", mark, oneLine(f.on()), stamp(f.FoundAt), f.FirstDiffers)
	fmt.Fprintf(&out, "        this computer's head  %s\n        the other one's head  %d:%s\n", ours, f.Sequence, f.Head)
	fmt.Fprintf(&out, "        here, entry %-9d %s\n        there, entry %-8d %s\n", f.FirstDiffers, oneLine(f.OursSays), f.FirstDiffers, oneLine(f.TheirsSays))
	if f.SettledBy != "" {
		fmt.Fprintf(&out, "        %s looked into it on %s\n", oneLine(f.SettledBy), stamp(f.SettledAt))
	}
	return out.String()
}

// unsettled is the first other ledger that nobody looked into yet.
func unsettled(forks []auditFork) (auditFork, bool) {
	i := slices.IndexFunc(forks, func(f auditFork) bool { return f.SettledBy == "" })
	if i < 0 {
		return auditFork{}, false
	}
	return forks[i], true
}

// problem says what to do about another ledger.
func (f auditFork) problem() error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("the ledger that was found on %s and the one of this computer differ from entry %d on: two control machines wrote, one was put back, or the ledger was written anew", f.on(), f.FirstDiffers),
		Safe: "both are kept, here and sealed on the drive, and neither is mixed into the other; drives and restore points are not concerned",
		Next: fmt.Sprintf("ask whoever used the computers named above, and compare both heads with the printed pages; let one control machine alone write from now on. Then: lifeboat rotate sign %s --by NAME --note TEXT", f.Step),
		Err:  fmt.Errorf("%w: %w", lifeboat.ErrDamaged, custody.ErrForked),
	}
}

// signLedger says that a person looked into another ledger. Its name is that of
// the step, with as much of the hash as was typed.
func (a *app) signLedger(ctx context.Context, cat *catalog.Catalog, name string, f signFlags) (custody.Entry, error) {
	forks, err := a.auditForks(ctx, cat, nil)
	if err != nil {
		return custody.Entry{}, err
	}
	i := slices.IndexFunc(forks, func(x auditFork) bool { return x.Step == name })
	switch {
	case i < 0:
		return custody.Entry{}, &lifeboat.Problem{
			What: fmt.Sprintf("no other ledger is known whose head begins with %q", strings.TrimPrefix(name, ledgerStep)),
			Safe: "nothing was recorded; the ledger is as it was",
			Next: "see which there are: lifeboat rotate audit",
		}
	case f.note == "":
		return custody.Entry{}, usagef("say what was found out: --note TEXT")
	}
	return a.record(ctx, cat, custody.Entry{Act: custody.ActSigned, Step: name, Signer: f.by, Note: f.note})
}
