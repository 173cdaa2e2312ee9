package catalog_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/catalog"
)

func someDrill(run string, ended time.Time, record string) catalog.Drill {
	return catalog.Drill{RunID: run, Mode: "drill", Book: "office", Meaning: "m", Began: noon, Ended: ended, Passed: true, DriveID: "d1", Record: record}
}

func TestTheLaterRecordOfARunThatWentOnCounts(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	must(t, cat.RecordDrill(ctx, someDrill("r", noon.Add(time.Hour), "first")))
	must(t, cat.RecordDrill(ctx, someDrill("r", noon.Add(2*time.Hour), "went on")))
	must(t, cat.RecordDrill(ctx, someDrill("r", noon, "from an old drive")))
	d, err := cat.Drill(ctx, "r")
	must(t, err)
	if d.Record != "went on" || d.Changed() {
		t.Errorf("%+v", d)
	}
	// An extract that is older brings the older record, whatever its ledger says.
	old := fresh(t)
	must(t, old.RecordDrill(ctx, someDrill("r", noon.Add(time.Hour), "first")))
	must(t, old.RecordDrill(ctx, someDrill("other", noon, "theirs alone")))
	must(t, cat.Absorb(ctx, "site", strings.NewReader(extractOf(t, old)), true))
	all, err := cat.Drills(ctx)
	must(t, err)
	if len(all) != 2 || all[1].Record != "went on" {
		t.Errorf("%+v", all)
	}
}

func TestARecordThatWasChangedInTheFileIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	cat, err := catalog.Open(t.Context(), path)
	must(t, err)
	defer cat.Close()
	must(t, cat.RecordDrill(t.Context(), someDrill("r", noon, `{"passed":false}`)))
	catalog.ChangeByHand(t, path, `UPDATE drills SET record = replace(record, 'false', 'true')`)
	if d, err := cat.Drill(t.Context(), "r"); err != nil || !d.Changed() {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestARecordThatNoExtractHoldsIsRefused(t *testing.T) {
	cat := fresh(t)
	if err := cat.RecordDrill(t.Context(), someDrill("r", noon, strings.Repeat("x", catalog.MaxRecord+1))); err == nil {
		t.Error("it was taken")
	}
	// The longest, of characters that JSON writes with six, comes back.
	must(t, cat.RecordDrill(t.Context(), someDrill("long", noon, strings.Repeat("<\"", catalog.MaxRecord/2))))
	again := fresh(t)
	must(t, again.Absorb(t.Context(), "site", strings.NewReader(extractOf(t, cat)), true))
	if _, err := again.Drill(t.Context(), "nobody"); !errors.Is(err, catalog.ErrUnknown) {
		t.Error(err)
	}
}
