package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

func (a *app) rotateAuditCommand() *cobra.Command {
	var heads []string
	c := &cobra.Command{
		Use: "audit", Short: "Check the ledger, against every head that drives and pages carry",
		Long: "Checks that no entry of the ledger was changed, removed, inserted or put elsewhere, and compares\n" +
			"it with every head that was seen outside of it: on the drives that are attached, on those that\n" +
			"were, and the ones that you type from printed pages. That finds a ledger that somebody wrote\n" +
			"anew as a whole. The first 16 digits of a head's hash are enough.\n\n" +
			"A drive may carry a ledger that says something else, because two control machines wrote or one\n" +
			"was put back. Both are shown, and it ends with 12 until a person signs what was found out.",
		Example:     "  lifeboat rotate audit\n  lifeboat rotate audit --head 12:4f0c2b1e77ab90cd",
		Annotations: exits(exitDamage), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rotateAudit(c.Context(), heads) },
	}
	c.Flags().StringArrayVar(&heads, "head", nil, "a head as it stands on a printed page, NUMBER:HASH; may be given several times")
	return c
}

// audit is what an audit found.
type audit struct {
	Entries int          `json:"entries"`
	Head    custody.Head `json:"head"`
	// Witnesses are the heads that the ledger was compared with.
	Witnesses []custody.Witness `json:"witnesses"`
	Findings  []custody.Finding `json:"findings"`
	// Forks are ledgers of this site that say something else.
	Forks []auditFork `json:"forks"`
	// Silent are attached drives whose ledger could not be read, and why.
	Silent []string `json:"silent,omitempty"`
}

func (a *app) rotateAudit(ctx context.Context, typed []string) error {
	var witnesses []custody.Witness
	for _, text := range typed {
		h, err := custody.ParseHead(text)
		if err != nil {
			return usagef("--head: %v", err)
		}
		witnesses = append(witnesses, custody.Witness{Where: "the page with the head " + short(string(h.Hash)), Head: h, SeenAt: a.now().UTC()})
	}
	site, err := a.loadSite()
	if err != nil {
		return err
	}
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	report, err := a.auditLedger(ctx, cat, site.Site.ID, witnesses)
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(report)
	} else {
		a.print("%s", report)
	}
	bad, broken := custody.FirstFault(report.Findings)
	if !broken {
		if fork, found := unsettled(report.Forks); found {
			return fork.problem()
		}
		return nil
	}
	return &lifeboat.Problem{
		What: "the ledger does not hold: " + bad.What,
		Safe: "drives and restore points are not concerned; the ledgers on the drives and the printed pages are evidence",
		Next: "keep the drives and pages that differ as they are, and find out who changed what; a drive with the right ledger puts back what was changed here: attach it, and run: lifeboat export",
		Err:  fmt.Errorf("%w: %w", lifeboat.ErrDamaged, custody.ErrBroken),
	}
}

// auditLedger compares the ledger with every head there is: the typed ones, those
// that were ever seen, and those of the drives that are attached.
func (a *app) auditLedger(ctx context.Context, cat *catalog.Catalog, siteID string, witnesses []custody.Witness) (audit, error) {
	lines, err := cat.LedgerLines(ctx)
	if err != nil {
		return audit{}, err
	}
	seen, err := cat.Witnesses(ctx)
	if err != nil {
		return audit{}, err
	}
	onDrives, silent, err := a.headsOnDrives(ctx)
	if err != nil {
		return audit{}, err
	}
	forks, err := a.auditForks(ctx, cat, lines)
	if err != nil {
		return audit{}, err
	}
	// What people typed counts even where it is another ledger's.
	all := append(witnesses, withoutForks(append(onDrives, seen...), forks)...)
	report := audit{Entries: len(lines), Witnesses: all, Findings: custody.Audit(siteID, lines, all), Forks: append([]auditFork{}, forks...), Silent: silent}
	if len(lines) > 0 {
		report.Head = custody.Head{Sequence: uint64(len(lines)), Hash: custody.HashOf(lines[len(lines)-1].Text)}
	}
	if report.Findings == nil {
		report.Findings = []custody.Finding{}
	}
	return report, nil
}

// headsOnDrives reads the ledgers of the drives that are attached.
func (a *app) headsOnDrives(ctx context.Context) (heads []custody.Witness, silent []string, err error) {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range found {
		if !f.Usable() {
			continue
		}
		w, err := a.headOn(ctx, f)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		switch {
		case err != nil:
			silent = append(silent, fmt.Sprintf("drive %s at %s: %v", f.Drive.Label, f.Path, err))
		case w.Sequence > 0:
			heads = append(heads, w)
		}
	}
	return heads, silent, nil
}

// headOn reads the head of one drive's ledger; a drive without one has a head of
// zero. A drive of another site is no witness, and is not asked.
func (a *app) headOn(ctx context.Context, f rotation.Found) (custody.Witness, error) {
	keys, err := a.keys()
	if err != nil {
		return custody.Witness{}, err
	}
	d, err := a.openFound(ctx, f, keys, imagestore.Read, nil)
	if err != nil {
		return custody.Witness{}, err
	}
	defer d.Close()
	if err := a.checkSite(d); err != nil {
		if errors.Is(err, lifeboat.ErrWrongDrive) {
			return custody.Witness{}, nil
		}
		return custody.Witness{}, err
	}
	entries, err := a.ledgerOn(ctx, d)
	return custody.Witness{Where: fmt.Sprintf("drive %s at %s", f.Drive.Label, f.Path), Head: custody.HeadOf(entries), SeenAt: a.now().UTC()}, err
}

// String is the audit as a person reads it.
func (r audit) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "the ledger has %s", entries(r.Entries))
	if r.Entries > 0 {
		fmt.Fprintf(&out, ", and its head is %s", r.Head)
	}
	out.WriteString("\n")
	for _, f := range r.Findings {
		if f.Remark() {
			fmt.Fprintf(&out, "remark: %s\n", oneLine(f.What))
		} else {
			fmt.Fprintf(&out, "wrong:  %s\n", oneLine(f.What))
		}
	}
	for _, f := range r.Forks {
		out.WriteString(f.lines(r.Head))
	}
	for _, s := range r.Silent {
		fmt.Fprintf(&out, "not read: %s\n", oneLine(s))
	}
	if _, broken := custody.FirstFault(r.Findings); broken {
		return out.String()
	}
	others := ""
	if len(r.Forks) > 0 {
		others = " that is not of another ledger"
	}
	fmt.Fprintf(&out, "every entry holds the one before it; it agrees with all of %s outside of it%s\n", count(len(r.Witnesses), "head"), others)
	if len(r.Witnesses) == 0 {
		out.WriteString("nothing outside of it was seen yet, which could show that it was written anew: attach a drive, or type the head from a page\n")
	}
	return out.String()
}

// entries is count for a noun whose plural is not made with an s.
func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
