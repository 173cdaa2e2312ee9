package runbook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"testing"
	"time"

	"lifeboat"
)

var sampleBegan = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

// screen is a screenshot such as a host makes of a text console.
func screen(t testing.TB, width, height int) []byte {
	t.Helper()
	p := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := color.RGBA{20, 20, 24, 255}
			if y%16 > 4 && y%16 < 12 && x%9 > 1 && x < 40+(y*37)%(width-40) {
				c = color.RGBA{200, 200, 200, 255}
			}
			p.SetRGBA(x, y, c)
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, p); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sampleScreen is the screenshot of every machine of a sample, a small one with the
// race detector, which takes long over points.
func sampleScreen(t testing.TB) []byte {
	t.Helper()
	if testing.Short() {
		return screen(t, 90, 50)
	}
	return screen(t, 720, 400)
}

// sample is a drill of so many machines as one leaves it, with its evidence.
func sample(t testing.TB, machines int) (*Record, map[string][]byte) {
	t.Helper()
	at := func(d time.Duration) time.Time { return sampleBegan.Add(d) }
	r := &Record{Version: Version, RunID: "3f2a9c1b7e5d40d2a8c6b1e0f9d87c65", Mode: Drill, Began: sampleBegan, Program: "1.0", Computer: "rescue1", User: "root (sudo of anna)",
		BookText: "# The office, as Anna wrote it down\nversion: 1\nname: office\nobjectives:\n  rto: 4h\n  rpo: 26h\nmachines:\n  - name: db\n    tier: 1\n",
		BookHash: "9d0c" + fmt.Sprintf("%060d", 7), BookMeaning: "77aa" + fmt.Sprintf("%060d", 1), OpenedWith: "typed", Lead: 2*time.Hour + 30*time.Minute, Passed: true, Cleaned: true,
		Plan: Plan{Book: "office", Site: "Muster GmbH", Mode: Drill, Objectives: Objectives{RTO: 4 * time.Hour, RPO: 26 * time.Hour},
			Findings: []Finding{{Severity: Warns, Code: "clock", What: "the clock of the host is 4 s ahead"}}},
		Hosts: []HostRecord{{Name: "rescue1", Kind: "qemu", KVM: true, CPUs: 8, MemoryBytes: 32 << 30, System: "Debian GNU/Linux 12"}},
		Drives: []DriveRecord{{ID: "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2", Label: "B2", Model: "Seagate Expansion 5 TB", Link: "USB 3.0", Custody: "onsite, office, held by Anna",
			VerifiedAt: at(-30 * time.Hour), LedgerHead: "118:4f0c2b1e77ab90cd", ReadBytes: 812 << 20}}}
	files, screenshot := map[string][]byte{}, sampleScreen(t)
	r.Steps = append(r.Steps, StepRecord{ID: "confirm-declare", Kind: StepConfirm, Began: at(2 * time.Second), Ended: at(40 * time.Second), Outcome: OutcomeDone, Attempts: 1, Result: Result{Who: "Anna"}})
	last := time.Duration(0)
	for i := range machines {
		name := []string{"db", "web", "files"}[i%3]
		if i >= 3 {
			name += fmt.Sprint(i/3 + 1)
		}
		tier := 1 + i*3/machines
		begin := 40*time.Second + time.Duration(tier-1)*70*time.Second + time.Duration(i%10)*4*time.Second
		booted, answered := begin+18*time.Second+time.Duration(i%5)*3*time.Second, begin+46*time.Second+time.Duration(i%7)*5*time.Second
		picture, console := "evidence/"+name+".png", "evidence/"+name+".txt"
		files[picture] = screenshot
		files[console] = []byte("\x1b[0;32m[  OK  ]\x1b[0m Started PostgreSQL.\r\nDebian GNU/Linux 12 " + name + " ttyS0\r\n\r\n" + name + " login: ")
		r.Steps = append(r.Steps,
			StepRecord{ID: "boot-" + name, Kind: StepBoot, Machine: name, Began: at(begin), Ended: at(booted), Outcome: OutcomeDone, Attempts: 1, Result: Result{Detail: "runs from drive B2"}},
			StepRecord{ID: "check-" + name, Kind: StepCheck, Machine: name, Began: at(booted), Ended: at(answered), Outcome: OutcomeDone, Attempts: 1,
				Result: Result{Detail: "tcp:5432 answered"}, Evidence: Evidence{Screenshot: picture, Console: console}})
		r.Machines = append(r.Machines, MachineRecord{Name: name, ID: fmt.Sprintf("%032x", i+1), Tier: tier, PointID: fmt.Sprintf("%032x", 1000+i), TakenAt: at(-9 * time.Hour),
			Host: "rescue1", Objectives: Objectives{RTO: time.Hour, RPO: 24 * time.Hour}, Passed: true, Checked: 1, Disks: []string{"vda"}, Evidence: Evidence{Screenshot: picture, Console: console},
			Measured: Measured{RTA: answered, RPA: 9 * time.Hour, ReadBytes: int64(200+i*13) << 20, Spent: map[Spending]time.Duration{SpentWaiting: begin - 5*time.Second,
				SpentFind: time.Second, SpentOpen: 2 * time.Second, SpentDefine: 2 * time.Second, SpentBoot: booted - begin, SpentService: answered - booted}}})
		r.Plan.Machines = append(r.Plan.Machines, PlannedMachine{Name: name, Point: lifeboat.RestorePoint{}})
		last = max(last, answered)
	}
	r.Steps = append(r.Steps, StepRecord{ID: "run-mail", Kind: StepRun, Began: at(last), Ended: at(last + 6*time.Second), Outcome: OutcomeDone, Attempts: 1,
		Result: Result{Detail: "exit 0", Output: "switched the test mailbox\n1 message came through\n"}})
	r.RTA, r.Ended = last, at(last+40*time.Second)
	seal(r, files)
	return r, files
}

// seal writes the hashes of the evidence into a record, as keeping it does.
func seal(r *Record, files map[string][]byte) {
	r.Files = map[string]string{}
	for name, data := range files {
		sum := sha256.Sum256(data)
		r.Files[name] = hex.EncodeToString(sum[:])
	}
}

// failed is a drill in which web never answered and something was left behind.
func failed(t testing.TB) (*Record, map[string][]byte) {
	t.Helper()
	r, files := sample(t, 3)
	r.Passed, r.Cleaned = false, false
	r.Missed = []string{"web: its check tcp:443 did not pass within 5m0s"}
	r.Partial = "the drive was opened with this computer's own key"
	r.OpenedWith = "identity"
	r.NotRepresentative = "no KVM on rescue1: its machines were emulated"
	r.Left = []string{"the network namespace lifeboat-3f2a9c1b could not be removed: device busy"}
	r.Hosts[0].KVM = false
	r.Machines[1].Passed, r.Machines[1].Form = false, "SATA in the place of virtio"
	for i := range r.Steps {
		switch r.Steps[i].ID {
		case "check-web":
			r.Steps[i].Outcome, r.Steps[i].Attempts = OutcomeFailed, 3
			r.Steps[i].Problem = "tcp:443 of 10.20.0.12: connection refused for 5m0s"
			r.Steps[i].Ended = r.Steps[i].Began.Add(5 * time.Minute)
		case "run-mail":
			r.Steps[i] = StepRecord{ID: "run-mail", Kind: StepRun, Outcome: OutcomeNotRun, Problem: "check-web failed"}
		}
	}
	r.Steps = append(r.Steps, StepRecord{ID: "message-dns", Kind: StepMessage, Outcome: OutcomeSkipped, Reason: "no DNS in this drill"})
	return r, files
}

// history are the runs before a record, and the record of the last of them.
func history(t testing.TB, r *Record, n int) (past []PastRun, before *Record) {
	t.Helper()
	for i := range n {
		old, _ := sample(t, len(r.Machines))
		old.RunID, old.Began = fmt.Sprintf("%032x", i+1), r.Began.AddDate(0, 0, -91*(n-i))
		old.RTA = r.RTA + time.Duration((n-i)*23)*time.Second
		old.Passed = i != 1
		old.BookMeaning, old.BookText = "other", "# The office\nversion: 1\nname: office\nmachines:\n  - name: db\n"
		old.Machines[0].Disks = nil
		past, before = append(past, old.Past()), old
	}
	return past, before
}

func optionsOf(files map[string][]byte, before *Record) ReportOptions {
	return ReportOptions{Before: before, Seal: Seal{Hash: fmt.Sprintf("%064x", 0xabcdef), Entry: 119, At: sampleBegan.Add(5 * time.Minute)},
		Signatures: []Signature{{Name: "Anna Meier", At: sampleBegan.Add(2 * time.Hour), Entry: 120, User: "anna", Computer: "backup1", Note: "seen and accepted"}},
		File: func(name string) ([]byte, error) {
			if data, ok := files[name]; ok {
				return data, nil
			}
			return nil, fmt.Errorf("no file %s", name)
		}}
}
