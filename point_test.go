package lifeboat_test

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
)

func TestNewestGoesByCommitsAndForCopiesByTheirMoment(t *testing.T) {
	const own, copied = "", "another drive"
	at := func(sequence uint64, hour int, from string) lifeboat.RestorePoint {
		return lifeboat.RestorePoint{Sequence: sequence, TakenAt: time.Date(2026, 11, 20, hour, 0, 0, 0, time.UTC), CopiedFrom: from}
	}
	for name, c := range map[string]struct {
		points []lifeboat.RestorePoint
		want   uint64
	}{
		"only exports":                      {[]lifeboat.RestorePoint{at(1, 1, own), at(2, 2, own)}, 2},
		"a clock that went back":            {[]lifeboat.RestorePoint{at(1, 9, own), at(2, 2, own)}, 2},
		"an older copy":                     {[]lifeboat.RestorePoint{at(1, 3, own), at(2, 2, copied)}, 1},
		"a newer copy":                      {[]lifeboat.RestorePoint{at(1, 3, own), at(2, 4, copied)}, 2},
		"copies in no order":                {[]lifeboat.RestorePoint{at(1, 4, copied), at(2, 5, copied), at(3, 3, copied)}, 2},
		"copies of one moment":              {[]lifeboat.RestorePoint{at(1, 4, copied), at(2, 4, copied)}, 2},
		"an export after the copy":          {[]lifeboat.RestorePoint{at(1, 4, copied), at(2, 5, own)}, 2},
		"an export after it, wrong clock":   {[]lifeboat.RestorePoint{at(1, 9, copied), at(2, 5, own)}, 2},
		"each newer than another, by clock": {[]lifeboat.RestorePoint{at(1, 20, copied), at(2, 10, own), at(3, 15, copied)}, 3},
	} {
		for range 2 { // in whatever order
			if got := lifeboat.Newest(c.points)[""]; got.Sequence != c.want {
				t.Errorf("%s: %d, want %d", name, got.Sequence, c.want)
			}
			slices.Reverse(c.points)
		}
	}
}

func TestOnlyTheRecordOnADriveHoldsWhatATPMKeeps(t *testing.T) {
	p := lifeboat.RestorePoint{ID: "p1", Machine: lifeboat.Machine{Name: "dc", CPUs: 2,
		TPM: &lifeboat.TPM{Version: "2.0", Model: "crb", State: []byte("canary")}}}
	printed, err := json.Marshal(map[string]any{"point": p, "machine": &p.Machine, "tpm": p.Machine.TPM})
	if err != nil || strings.Contains(string(printed), base64.StdEncoding.EncodeToString(p.Machine.TPM.State)) {
		t.Errorf("a print holds the state: %s, %v", printed, err)
	}
	if !strings.Contains(string(printed), `"tpm":{"version":"2.0","model":"crb"}`) {
		t.Errorf("a print does not say that there is a TPM: %s", printed)
	}
	if string(p.Machine.TPM.State) != "canary" {
		t.Error("printing took the state away")
	}
	record, err := p.Record()
	if err != nil {
		t.Fatal(err)
	}
	var read lifeboat.RestorePoint
	if err := json.Unmarshal(record, &read); err != nil || !reflect.DeepEqual(read, p) {
		t.Errorf("the record is %s and was read as %+v, %v", record, read, err)
	}
}

func TestAPartHasToAgreeWithItselfAndItsMachine(t *testing.T) {
	good := func() lifeboat.RestorePoint {
		return lifeboat.RestorePoint{ID: "p1", Disks: []lifeboat.PointDisk{{Key: "root"}},
			Machine:  lifeboat.Machine{Disks: []lifeboat.Disk{{Key: "root"}, {Key: "data"}, {Key: "swap", Excluded: "swap"}}},
			Together: []lifeboat.Part{{PointID: "p1", Disks: []string{"root"}}, {PointID: "p2", Disks: []string{"data"}}}}
	}
	for name, c := range map[string]struct {
		change func(*lifeboat.RestorePoint)
		bad    bool
	}{
		"whole":               {func(p *lifeboat.RestorePoint) { p.Together = nil }, false},
		"a part":              {func(p *lifeboat.RestorePoint) {}, false},
		"alone":               {func(p *lifeboat.RestorePoint) { p.Together = p.Together[:1] }, true},
		"not in its list":     {func(p *lifeboat.RestorePoint) { p.ID = "p3" }, true},
		"the wrong disk":      {func(p *lifeboat.RestorePoint) { p.Disks[0].Key = "data" }, true},
		"a disk nowhere":      {func(p *lifeboat.RestorePoint) { p.Machine.Disks[2].Excluded = "" }, true},
		"a disk twice":        {func(p *lifeboat.RestorePoint) { p.Together[1].Disks = []string{"data", "root"} }, true},
		"an excluded disk":    {func(p *lifeboat.RestorePoint) { p.Together[1].Disks = []string{"data", "swap"} }, true},
		"a disk of nobody":    {func(p *lifeboat.RestorePoint) { p.Together[1].Disks = []string{"data", "x"} }, true},
		"a part twice":        {func(p *lifeboat.RestorePoint) { p.Together[1].PointID = "p1" }, true},
		"a part with nothing": {func(p *lifeboat.RestorePoint) { p.Together[1].Disks = nil }, true},
	} {
		p := good()
		c.change(&p)
		if err := p.CheckTogether(); (err != nil) != c.bad {
			t.Errorf("%s: %v", name, err)
		}
	}
	if part, ok := good().PartWith("data"); !ok || part.PointID != "p2" || !good().IsPart() {
		t.Errorf("data is in %+v", part)
	}
}
