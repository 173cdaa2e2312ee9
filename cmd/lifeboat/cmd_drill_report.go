package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/runbook"
)

func (a *app) drillReportCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "report [RUN]", Short: "Make the report of a drill or a recovery: one HTML file",
		Long: "Makes the report of a run, the newest if none is named: what was rehearsed, each machine and step\n" +
			"with its times, the objectives, what changed since the run before, pictures and signatures. It is\n" +
			"one file that needs no network and prints well. With --json it is the record, and what changed.",
		Example:     "  lifeboat drill report\n  lifeboat drill report 3f2a --output drill.html",
		Annotations: exits(exitDamage), Args: oneArgAtMost("the id of a run"),
		ValidArgsFunction: a.completeDrills,
		RunE: func(c *cobra.Command, args []string) error {
			return a.drillReport(c.Context(), slices.Concat(args, []string{""})[0], output)
		},
	}
	c.Flags().StringVar(&output, "output", "", "write this file (default: report.html in the run's folder); - is the screen")
	return c
}

// reportJSON is what `drill report --json` prints.
type reportJSON struct {
	Record     *runbook.Record     `json:"record"`
	Result     runbook.Verdict     `json:"result"`
	Before     string              `json:"before,omitempty"`
	Changes    []runbook.Change    `json:"changes"`
	Signatures []runbook.Signature `json:"signatures"`
	Seal       runbook.Seal        `json:"seal"`
}

func (a *app) drillReport(ctx context.Context, prefix, output string) error {
	k, all, err := a.findKept(ctx, prefix)
	if err != nil {
		return err
	}
	if k.Record == nil {
		return changedRecord(k)
	}
	if a.json && output == "" {
		doc := reportJSON{Record: k.Record, Result: k.Record.Verdict(), Changes: []runbook.Change{}, Signatures: k.Signed, Seal: k.Seal}
		if before := beforeOf(k, all); before != nil {
			doc.Before, doc.Changes = before.RunID, runbook.Changes(before, k.Record)
		}
		if doc.Signatures == nil {
			doc.Signatures = []runbook.Signature{}
		}
		a.printJSON(doc)
	} else if err := a.writeReport(k, all, output); err != nil {
		return err
	}
	if k.Seal.Broken != "" {
		return changedRecord(k)
	}
	return nil
}

func (a *app) writeReport(k keptRun, all []keptRun, output string) error {
	page, err := a.reportOf(k, all)
	if err != nil {
		return err
	}
	if output == "-" {
		_, err := a.stdout.Write(page)
		return err
	}
	if output == "" {
		dir := filepath.Join(a.runsDir(), filepath.Base(k.RunID))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		output = filepath.Join(dir, reportFile)
	}
	if err := writeFile(output, page, 0o600); err != nil {
		return &lifeboat.Problem{What: fmt.Sprintf("the report cannot be written: %v", err), Safe: "the record is kept as it was", Next: "name another file: --output FILE", Err: err}
	}
	if a.json {
		a.printJSON(map[string]string{"run": k.RunID, "file": output})
		return nil
	}
	a.print("%s of %s, %s: %s\n", k.Mode, oneLine(k.Book), stamp(k.Began), k.verdict())
	a.print("the report is %s: open it in a browser, and print it from there\n", output)
	return nil
}

func (a *app) drillSignCommand() *cobra.Command {
	var as, note string
	c := &cobra.Command{
		Use: "sign RUN --as NAME", Short: "Sign the report of a drill or a recovery",
		Long: "Writes into the ledger that a person has seen and accepts the record of a run, by its hash: the\n" +
			"report shows it. A record that was changed since cannot be signed. Nobody proves who signs.",
		Example:     "  lifeboat drill sign 3f2a --as Anna\n  lifeboat drill sign 3f2a --as Anna --note 'the mail server is still too slow'",
		Annotations: exits(exitDamage), Args: exactArgs("the id of a run"),
		ValidArgsFunction: a.completeDrills,
		RunE: func(c *cobra.Command, args []string) error {
			if as == "" {
				return usagef("say who signs: --as NAME")
			}
			return a.drillSign(c.Context(), args[0], as, note)
		},
	}
	c.Flags().StringVar(&as, "as", "", "who signs, one of the people of site.yaml")
	c.Flags().StringVar(&note, "note", "", "a remark for the report")
	c.RegisterFlagCompletionFunc("as", a.completePeople)
	return c
}

func (a *app) drillSign(ctx context.Context, prefix, as, note string) error {
	if _, err := a.loadSite(); err != nil {
		return err
	}
	k, _, err := a.findKept(ctx, prefix)
	if err != nil {
		return err
	}
	if k.Record == nil || k.Seal.Broken != "" {
		return changedRecord(k)
	}
	for _, s := range k.Signed {
		if s.Name == as && !s.Other {
			return usagef("%s signed this record already, on %s", as, stamp(s.At))
		}
	}
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	e, err := a.record(ctx, cat, custody.Entry{Act: custody.ActSigned, Signer: as, Note: note, Facts: map[string]string{factRun: k.RunID, factRecord: k.Hash}})
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(e)
		return nil
	}
	a.print("signed by %s: %s of %s, %s: %s (entry %d)\n", e.Signer, k.Mode, oneLine(k.Book), stamp(k.Began), k.verdict(), e.Sequence)
	return nil
}
