package runbook

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"time"
)

// ReportOptions is what a report shows beside the record.
type ReportOptions struct {
	// Zone is that of the times in the report; nil is UTC.
	Zone *time.Location
	// File reads a file of evidence by its name in the run's folder; nil: none is at
	// hand. What it gives is hostile, like everything else in a record.
	File func(name string) ([]byte, error)
	// Before is the record of the run before this one of the same runbook, if there
	// is one.
	Before *Record
	// Signatures are those of the ledger, oldest first.
	Signatures []Signature
	Seal       Seal
}

//go:embed report.html
var reportHTML string

//go:embed report.css
var reportCSS string

var reportPage = template.Must(template.New("report").Parse(reportHTML))

// Report is the report of a run as one HTML file: no script, no network, no other
// file is needed to read or to print it. The past are other runs, oldest first;
// those of the same runbook are the trend.
//
// All that comes from machines, drives and people is bounded and escaped. What
// cannot be shown is said in its place; the error is one of the program alone.
func Report(r Record, past []PastRun, o ReportOptions) ([]byte, error) {
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	var page bytes.Buffer
	if err := reportPage.Execute(&page, newReportView(&r, past, o)); err != nil {
		return nil, fmt.Errorf("make the report of run %s: %w", tidy(r.RunID, 64), err)
	}
	return page.Bytes(), nil
}
