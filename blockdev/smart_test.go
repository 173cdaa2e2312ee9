package blockdev

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The answers have the form of smartctl's JSON, version 7.3.
func TestHealthFromSmartctl(t *testing.T) {
	for name, c := range map[string]struct {
		json string
		want Health
	}{
		"healthy": {
			`{"json_format_version":[1,0],"smartctl":{"version":[7,3],"exit_status":0},"smart_status":{"passed":true},
			  "ata_smart_attributes":{"table":[{"id":5,"raw":{"value":0}},{"id":9,"raw":{"value":12345}},{"id":197,"raw":{"value":0}}]},
			  "power_on_time":{"hours":12345},"temperature":{"current":34}}`,
			Health{Verdict: HealthGood, Hours: 12345, Celsius: 34}},
		"replaced sectors alone are no alarm": {
			`{"smart_status":{"passed":true},"ata_smart_attributes":{"table":[{"id":5,"raw":{"value":8}}]}}`,
			Health{Verdict: HealthGood, Reallocated: 8}},
		"about to fail": {
			`{"smart_status":{"passed":false},"power_on_time":{"hours":50000}}`,
			Health{Verdict: HealthFailing, Why: "the disk says that it is about to fail", Hours: 50000}},
		"sectors that cannot be read": {
			`{"smart_status":{"passed":true},"ata_smart_attributes":{"table":[{"id":197,"raw":{"value":3}}]}}`,
			Health{Verdict: HealthFailing, Why: "3 sectors cannot be read", Pending: 3}},
		"NVMe": {
			`{"smart_status":{"passed":true,"nvme":{"value":0}},"nvme_smart_health_information_log":{"media_errors":2},"temperature":{"current":40}}`,
			Health{Verdict: HealthFailing, Why: "2 errors of its memory", Celsius: 40}},
		"a USB bridge that does not pass it on": {
			`{"smartctl":{"exit_status":1,"messages":[{"string":"/dev/sdb: Unknown USB bridge [0x152d:0x0578 (0x109)]","severity":"error"}]}}`,
			Health{Verdict: HealthUnknown, Why: "/dev/sdb: Unknown USB bridge [0x152d:0x0578 (0x109)]"}},
		"nothing told":       {`{}`, Health{Verdict: HealthUnknown, Why: "the disk, or the box it is in, does not tell"}},
		"hours before birth": {`{"smart_status":{"passed":true},"power_on_time":{"hours":-5}}`, Health{Verdict: HealthGood}},
		"cut off":            {`{"smart_status":{"pas`, Health{Verdict: HealthUnknown, Why: "smartctl's answer was not understood"}},
		"no answer":          {``, Health{Verdict: HealthUnknown, Why: "smartctl's answer was not understood"}},
		"another document":   {`[1,2]`, Health{Verdict: HealthUnknown, Why: "smartctl's answer was not understood"}},
	} {
		if got := parseHealth([]byte(c.json)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// smartctl stands for the program: it prints what the test says.
func smartctl(t *testing.T, script string) {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "smartctl"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
}

func TestSmartctlIsAskedAndBounded(t *testing.T) {
	disk := Device{Path: "/dev/sdq"}
	// Its exit code is no error of ours: a failing disk sets bits in it.
	smartctl(t, `[ "$*" = "--json --health --attributes /dev/sdq" ] && echo '{"smart_status":{"passed":false}}'; exit 8`)
	if h := CheckHealth(context.Background(), disk); h.Verdict != HealthFailing {
		t.Errorf("%+v", h)
	}
	smartctl(t, `while echo '{"messages":["no end of it, no end of it, no end of it, no end of it"]}'; do :; done`)
	if h := CheckHealth(context.Background(), disk); h.Verdict != HealthUnknown || h.Why == "" {
		t.Errorf("an endless answer: %+v", h)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if h := CheckHealth(ctx, disk); h.Verdict != HealthUnknown {
		t.Errorf("stopped: %+v", h)
	}
	t.Setenv("PATH", t.TempDir())
	if h := CheckHealth(context.Background(), disk); h.Verdict != HealthUnknown || !strings.Contains(h.Why, "not installed") {
		t.Errorf("without the program: %+v", h)
	}
}

// Whatever a program prints, there is an answer, and it fits on a line.
func FuzzHealth(f *testing.F) {
	f.Add([]byte(`{"smart_status":{"passed":true},"ata_smart_attributes":{"table":[{"id":197,"raw":{"value":3}}]}}`))
	f.Add([]byte(`{"smartctl":{"messages":[{"string":"a\nb\u001b[2J"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h := parseHealth(data)
		if h.Verdict == "" || strings.ContainsAny(h.Why, "\n\x1b") || h.Hours < 0 || h.Verdict != HealthGood && h.Why == "" {
			t.Errorf("%+v", h)
		}
	})
}
