package catalog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lifeboat/catalog"
)

func TestEveryTableIsInTheExtractOrLeftOutForAReason(t *testing.T) {
	if names := fresh(t).Unclassified(t); len(names) > 0 {
		t.Errorf("say in catalog/carried.go whether drives carry: %s", strings.Join(names, ", "))
	}
}

func extractOf(t testing.TB, c *catalog.Catalog) string {
	t.Helper()
	var out bytes.Buffer
	if err := c.WriteExtract(t.Context(), "site", &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// lived is a catalogue in which something of everything happened.
func lived(t *testing.T) *catalog.Catalog {
	t.Helper()
	ctx, cat := t.Context(), twoDrives(t)
	must(t, cat.StartRun(ctx, "r1", "export", noon))
	must(t, cat.EndRun(ctx, "r1", noon.Add(time.Minute), 3, "2 of 3 machines"))
	must(t, cat.RecordFailures(ctx, "r1", []string{"db"}))
	must(t, cat.StartRun(ctx, "r2", "verify", noon))
	must(t, cat.LinkMachine(ctx, "kvm1", "web", "m1"))
	must(t, cat.SetNote(ctx, "kvm1", "web", "checkpoint", []byte("host's own")))
	must(t, cat.Hold(ctx, catalog.Hold{PointID: "p1", Reason: "audit <2026>", By: "anna", At: noon}))
	must(t, cat.RecordFault(ctx, catalog.Fault{DriveID: "d2", PointID: "p1", RunID: "r2", At: noon, What: "rot"}))
	must(t, cat.PutDocument(ctx, catalog.Document{Name: "firewall", SizeBytes: 5, Hash: "h", ChangedAt: noon}))
	must(t, cat.PutDocument(ctx, catalog.Document{Name: "old", Hash: "o", ChangedAt: noon, RemovedAt: noon}))
	must(t, cat.Suspect(ctx, catalog.Suspicion{DriveID: "d2", Why: "it was attached twice", At: noon}))
	must(t, cat.SetDriveDocuments(ctx, "d1", map[string]string{"firewall": "h"}))
	_, err := cat.RecordFork(ctx, catalog.Fork{Head: "ff", Sequence: 3, DriveID: "d2", FirstDiffers: 2, FoundAt: noon, Text: "{}\n"})
	must(t, err)
	must(t, cat.RecordDrill(ctx, someDrill("e1", noon, `{"run":"e1"}`)))
	return cat
}

func TestExtractGivesTheCatalogueBack(t *testing.T) {
	before := extractOf(t, lived(t))
	if before != extractOf(t, lived(t)) {
		t.Error("equal catalogues give different extracts")
	}
	if strings.Contains(before, "host's own") {
		t.Error("the extract holds what a host noted")
	}
	for _, newer := range []bool{true, false} {
		cat := fresh(t)
		must(t, cat.Absorb(t.Context(), "site", strings.NewReader(before), newer))
		if diff := cmp.Diff(before, extractOf(t, cat)); diff != "" {
			t.Errorf("the catalogue that was made again differs: %s", diff)
		}
		must(t, cat.Absorb(t.Context(), "site", strings.NewReader(before), newer))
		if extractOf(t, cat) != before {
			t.Error("taking it over twice changes something")
		}
	}
}

// rowsOf are the rows of an extract by table, each by its columns.
func rowsOf(t *testing.T, text string) map[string][]map[string]any {
	t.Helper()
	all := map[string][]map[string]any{}
	var head struct {
		Table   string
		Columns []string
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "{") {
			head.Columns = nil
			must(t, json.Unmarshal([]byte(line), &head))
			continue
		}
		var values []any
		must(t, json.Unmarshal([]byte(line), &values))
		row := map[string]any{}
		for i, c := range head.Columns {
			row[c] = values[i]
		}
		all[head.Table] = append(all[head.Table], row)
	}
	return all
}

// The vector is of the first program that wrote version 1: columns and tables may
// be added since, and nothing of it may be lost.
func TestAnExtractOfVersionOneIsRead(t *testing.T) {
	data, err := os.ReadFile("../fixtures/vectors/extract.jsonl")
	must(t, err)
	cat := fresh(t)
	must(t, cat.Absorb(t.Context(), "site", bytes.NewReader(data), true))
	want, got := rowsOf(t, string(data)), rowsOf(t, extractOf(t, cat))
	for table, rows := range want {
		if len(rows) != len(got[table]) {
			t.Errorf("table %s: %d rows, want %d", table, len(got[table]), len(rows))
			continue
		}
		for i, row := range rows {
			for column, value := range row {
				if got[table][i][column] != value {
					t.Errorf("table %s, row %d: %s is %v, want %v", table, i, column, got[table][i][column], value)
				}
			}
		}
	}
	if len(want) < 12 {
		t.Errorf("the vector has only %d tables with rows", len(want))
	}
}

func TestADriveIsKnownAsWhoSawItLastKnowsIt(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		theirs time.Time
		newer  bool
		want   string
	}{
		"they saw it later":                 {noon.Add(time.Hour), false, "theirs"},
		"we saw it later":                   {noon.Add(-time.Hour), true, "ours"},
		"both at once, and theirs is newer": {noon, true, "theirs"},
		"both at once, and ours is newer":   {noon, false, "ours"},
	} {
		ours, theirs := fresh(t), fresh(t)
		for cat, seen := range map[*catalog.Catalog]time.Time{ours: noon, theirs: c.theirs} {
			d := someDrive("d1", 3)
			d.SeenAt = seen
			must(t, cat.RecordDrive(ctx, d))
			must(t, cat.AddPoint(ctx, "d1", somePoint("both", "m1", 1)))
		}
		must(t, ours.AddPoint(ctx, "d1", somePoint("ours", "m1", 2)))
		must(t, theirs.AddPoint(ctx, "d1", somePoint("theirs", "m1", 2)))
		must(t, theirs.RecordDrive(ctx, someDrive("d2", 1)))
		must(t, ours.Absorb(ctx, "site", strings.NewReader(extractOf(t, theirs)), c.newer))
		points, err := ours.Points(ctx, catalog.PointFilter{DriveID: "d1"})
		must(t, err)
		var names []string
		for _, p := range points {
			names = append(names, p.PointID)
		}
		if diff := cmp.Diff([]string{"both", c.want}, names); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if _, err := ours.Drive(ctx, "d2"); err != nil {
			t.Errorf("%s: a drive that only they know: %v", name, err)
		}
	}
}

func TestADriveThatIsEmptyNowHasNoPointsOfBefore(t *testing.T) {
	ctx, ours, theirs := t.Context(), twoDrives(t), fresh(t)
	d := someDrive("d1", 9)
	d.SeenAt = noon.Add(24 * time.Hour)
	must(t, theirs.RecordDrive(ctx, d))
	must(t, ours.Absorb(ctx, "site", strings.NewReader(extractOf(t, theirs)), true))
	if points, err := ours.Points(ctx, catalog.PointFilter{DriveID: "d1"}); err != nil || len(points) > 0 {
		t.Errorf("%d points, %v", len(points), err)
	}
}

func TestExtractThatIsNoneChangesNothing(t *testing.T) {
	good := extractOf(t, lived(t))
	cat := twoDrives(t)
	before := extractOf(t, cat)
	for name, text := range map[string]string{
		"empty":               "",
		"another thing":       "hello\n",
		"of another site":     strings.Replace(good, `"siteId":"site"`, `"siteId":"other"`, 1),
		"of a newer program":  strings.Replace(good, `"extract":1`, `"extract":2`, 1),
		"torn":                good[:len(good)-9],
		"a row too short":     good + "[1]\n",
		"a text for a number": strings.Replace(good, `"p1",1,`, `"p1","1",`, 1),
		"a key that lacks":    `{"extract":1,"siteId":"site"}` + "\n" + `{"table":"runs","columns":["kind"]}` + "\n" + `["x"]` + "\n",
		"a point of no drive": `{"extract":1,"siteId":"site"}` + "\n" + `{"table":"drives","columns":["id","seen_at"]}` + "\n" + `["d9","9"]` + "\n",
	} {
		if err := cat.Absorb(t.Context(), "site", strings.NewReader(text), true); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		if extractOf(t, cat) != before {
			t.Fatalf("%s: it changed something", name)
		}
	}
	if err := cat.Absorb(t.Context(), "site", strings.NewReader("hello\n"), true); !errors.Is(err, catalog.ErrExtract) {
		t.Error(err)
	}
}

func TestExtractOfANewerProgramGivesWhatWeUnderstand(t *testing.T) {
	cat := fresh(t)
	text := `{"extract":1,"siteId":"site"}
{"table":"drives; DROP TABLE runs","columns":["id"]}
["x"]
{"table":"machine_ids","columns":["host","colour","host_id","machine_id"]}
["kvm1","red","web","m1"]
`
	must(t, cat.Absorb(t.Context(), "site", strings.NewReader(text), true))
	if id, err := cat.KnownMachine(t.Context(), "kvm1", "web"); err != nil || id != "m1" {
		t.Errorf("%q, %v", id, err)
	}
}

// Measured with LIFEBOAT_SOAK=1: 50 machines with 200 points on each of 6 drives.
func TestExtractOfALargeSiteIsQuick(t *testing.T) {
	machines, each, drives := 5, 20, 2
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		machines, each, drives = 50, 200, 6
	}
	ctx, cat := t.Context(), fresh(t)
	for d := range drives {
		id := fmt.Sprintf("%032x", d+1)
		must(t, cat.RecordDrive(ctx, someDrive(id, 3)))
		for m := range machines {
			for p := range each {
				must(t, cat.AddPoint(ctx, id, somePoint(fmt.Sprintf("%016x%016x", m*7919+p*104729, d*m*p*15485863), fmt.Sprintf("%032x", m), uint64(p+1))))
			}
		}
	}
	began := time.Now()
	text := extractOf(t, cat)
	wrote := time.Since(began)
	began = time.Now()
	again, err := catalog.Open(ctx, filepath.Join(t.TempDir(), "catalog.db"))
	must(t, err)
	defer again.Close()
	must(t, again.Absorb(ctx, "site", strings.NewReader(text), true))
	t.Logf("%d points: %d bytes, written in %v, taken over in %v", drives*machines*each, len(text), wrote, time.Since(began))
	if extractOf(t, again) != text {
		t.Error("it differs")
	}
}

func FuzzExtract(f *testing.F) {
	f.Add("{\"extract\":1,\"siteId\":\"site\"}\n{\"table\":\"machine_ids\",\"columns\":[\"host\",\"host_id\",\"machine_id\"]}\n[\"a\",\"b\",\"c\"]\n")
	f.Add("{\"extract\":1,\"siteId\":\"site\"}\n{\"table\":\"holds\",\"columns\":[\"point_id\",\"reason\",\"until\",\"held_by\",\"held_at\"]}\n[\"a\",\"b\",null,\"c\",\"2026-11-20T12:00:00Z\"]\n")
	cat, err := catalog.Open(f.Context(), filepath.Join(f.TempDir(), "catalog.db"))
	if err != nil {
		f.Fatal(err)
	}
	defer cat.Close()
	before := extractOf(f, cat)
	f.Fuzz(func(t *testing.T, text string) {
		if cat.Absorb(t.Context(), "site", strings.NewReader(text), true) == nil {
			// What was taken can be given on.
			if again := extractOf(t, cat); !strings.HasPrefix(again, before[:20]) {
				t.Error("no extract can be made any more")
			}
		}
	})
}
