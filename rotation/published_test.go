package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// TestTwoDisksForgetAsArcteraPublishedIt is the worked example of "How USB disk
// rotation works" in the Arctera System Recovery user's guide: two disks, and a
// limit of three sets that is counted over both. A set there is a base with its
// increments, which goes as one; here a point stands for it, which needs no other.
func TestTwoDisksForgetAsArcteraPublishedIt(t *testing.T) {
	p := rotation.Policy{Retention: rotation.Retention{Last: 3, AllDrives: true}}
	s := shelf(drive("1", custody.Onsite, on(1, 9)), drive("2", custody.Onsite, on(1, 9)))
	monday := time.Date(2026, time.November, 2, 20, 0, 0, 0, time.UTC)
	for n, run := range []struct {
		day, disk     int
		before, after string // what is forgotten before the run, and after it
	}{
		{0, 0, "", ""},            // Monday: set 1 on disk 1
		{3, 1, "", ""},            // Thursday: set 2 on disk 2
		{7, 0, "", ""},            // Monday: set 3 on disk 1
		{9, 1, "", ""},            // Wednesday: set 4 on disk 2; set 1 cannot go, its disk is away
		{14, 1, "", "set 2"},      // Monday: set 5 on disk 2; set 2 goes
		{16, 0, "set 1", "set 3"}, // Wednesday: set 1 goes at its disk's return, set 3 once set 6 is there
	} {
		now := monday.AddDate(0, 0, run.day)
		for i := range s.Drives {
			s.Drives[i].Attached = i == run.disk
		}
		before := forgetAll(p, &s, now)
		d := &s.Drives[run.disk]
		point := taken(uint64(n+1), now)
		point.ID, point.VerifiedAt = fmt.Sprintf("set %d", n+1), now
		d.Points, s.LastCommit = append(d.Points, point), point.CommittedAt
		after := forgetAll(p, &s, now.Add(time.Hour))
		if before != run.before || after != run.after {
			t.Errorf("%s on disk %d: %q goes before and %q after, not %q and %q", point.ID, run.disk+1, before, after, run.before, run.after)
		}
	}
}

// forgetAll does what the verdicts say, and returns the points that went.
func forgetAll(p rotation.Policy, s *rotation.Shelf, now time.Time) string {
	var gone []string
	for _, v := range rotation.Decide(now, p, *s).Verdicts {
		if !v.Keep {
			gone = append(gone, v.PointID)
		}
	}
	for i := range s.Drives {
		s.Drives[i].Points = slices.DeleteFunc(s.Drives[i].Points, func(q rotation.ShelfPoint) bool { return slices.Contains(gone, q.ID) })
	}
	return strings.Join(gone, " ")
}

// sessions lives through n turns of a scheme, does all steps of each, and returns
// the sets that left.
func sessions(t *testing.T, p rotation.Policy, first rotation.Date, n int) (sets []string) {
	t.Helper()
	var drives []rotation.ShelfDrive
	made := p.Calendar.EndOf(first.AddDays(-1))
	for _, set := range p.Scheme.Sets {
		drives = append(drives, rotation.ShelfDrive{Drive: lifeboat.Drive{ID: "id-" + set.Name, Label: set.Name, CreatedAt: made}, Place: custody.Place{State: custody.Onsite}, Since: made})
	}
	s := shelf(drives...)
	day := first
	for range n {
		noon := p.Calendar.EndOf(day).Add(-18 * time.Hour)
		d := rotation.Decide(noon, p, s)
		at := p.Calendar.EndOf(d.SwapOn).Add(-15 * time.Hour)
		d = rotation.Decide(at, p, s)
		sets = append(sets, d.Set)
		for _, step := range d.Steps {
			if step.Waits != "" || len(d.Blocked) > 0 {
				t.Fatalf("%s: %s waits: %s %v", d.Period, step.ID, step.Waits, d.Blocked)
			}
			if step.Done == nil {
				s = rotation.After(p, s, step, at)
			}
		}
		for i := range s.Drives { // old points do not matter here
			if points := s.Drives[i].Points; len(points) > 1 {
				s.Drives[i].Points = points[len(points)-1:]
			}
		}
		day = d.SwapOn.AddDays(1)
	}
	return sets
}

func hanoi(weekly bool, labels ...string) rotation.Policy {
	p := roundRobin(labels...)
	p.Scheme.Kind, p.Scheme.Weekly = rotation.SchemeHanoi, weekly
	p.Scheme.Start = rotation.Date{Year: 2026, Month: time.March, Day: 2}
	return p
}

// TestHanoiOfFiveLevelsIsThePublishedTemplate: 5 levels weekly are 16 sessions, and
// one can always go back 8 weeks (Acronis Backup & Recovery 10, page 152).
func TestHanoiOfFiveLevelsIsThePublishedTemplate(t *testing.T) {
	p := hanoi(true, "A", "B", "C", "D", "E")
	got := sessions(t, p, p.Scheme.Start, 48)
	const template = "E-A-B-A-C-A-B-A-D-A-B-A-C-A-B-A"
	for i := 0; i < len(got); i += 16 {
		if cycle := strings.Join(got[i:i+16], "-"); cycle != template {
			t.Errorf("sessions from %d on are %s", i, cycle)
		}
	}
	if back := rollBack(got, 16); back != 8 {
		t.Errorf("one can go back %d weeks", back)
	}
}

// TestHanoiOfEightLevelsGoesBackSixtyFourDays: 8 levels daily are 128 sessions.
func TestHanoiOfEightLevelsGoesBackSixtyFourDays(t *testing.T) {
	p := hanoi(false, "A", "B", "C", "D", "E", "F", "G", "H")
	p.Calendar.Workdays = []time.Weekday{0, 1, 2, 3, 4, 5, 6}
	got := sessions(t, p, p.Scheme.Start, 256)
	if !slices.Equal(got[:128], got[128:]) || slices.Equal(got[:64], got[64:128]) {
		t.Errorf("the pattern does not take 128 sessions: %v", got)
	}
	if back := rollBack(got, 128); back != 64 {
		t.Errorf("one can go back %d days", back)
	}
}

// rollBack is how many sessions one can go back at least, at any time after the
// first cycle, if each set holds what was last written to it.
func rollBack(sets []string, cycle int) int {
	least := len(sets)
	for now := cycle; now < len(sets); now++ {
		last := map[string]int{}
		for i, set := range sets[:now+1] {
			last[set] = i
		}
		oldest := now
		for _, i := range last {
			oldest = min(oldest, i)
		}
		least = min(least, now-oldest)
	}
	return least
}

func TestAYearOfGrandfatherFatherAndSonWithHolidays(t *testing.T) {
	p := roundRobin()
	p.Scheme.Kind = rotation.SchemeGFS
	for _, set := range []rotation.Set{{Name: "S1"}, {Name: "S2"}, {Name: "S3"}, {Name: "S4"}, {Name: "F1"}, {Name: "F2"}, {Name: "F3"}, {Name: "G1"}, {Name: "G2"}} {
		set.Drives = []string{set.Name}
		set.Role = map[byte]string{'S': rotation.RoleSon, 'F': rotation.RoleFather, 'G': rotation.RoleGrandfather}[set.Name[0]]
		p.Scheme.Sets = append(p.Scheme.Sets, set)
	}
	for _, holiday := range []string{"2027-01-01", "2027-03-26", "2027-03-29", "2027-12-24", "2027-12-27", "2027-12-28", "2027-12-29", "2027-12-30", "2027-12-31"} {
		d, err := rotation.ParseDate(holiday)
		if err != nil {
			t.Fatal(err)
		}
		p.Calendar.Holidays = append(p.Calendar.Holidays, d)
	}
	got := strings.Join(sessions(t, p, rotation.Date{Year: 2027, Month: time.January, Day: 4}, 52), " ")
	// 26 March is Good Friday: its swap is on Thursday. The last week of the year
	// has no workday, so the year ends with the swap of 23 December.
	const want = "S1 S2 S3 F1 " + // January: 8, 15, 22, 29
		"S4 S1 S2 F2 " + // February: 5, 12, 19, 26
		"S3 S4 S1 F3 " + // March: 5, 12, 19, 25
		"S2 S3 S4 S1 F1 " + // April: 2, 9, 16, 23, 30
		"S2 S3 S4 F2 " + // May: 7, 14, 21, 28
		"S1 S2 S3 F3 " + // June: 4, 11, 18, 25
		"S4 S1 S2 S3 F1 " + // July: 2, 9, 16, 23, 30
		"S4 S1 S2 F2 " + // August: 6, 13, 20, 27
		"S3 S4 S1 F3 " + // September: 3, 10, 17, 24
		"S2 S3 S4 S1 F1 " + // October: 1, 8, 15, 22, 29
		"S2 S3 S4 F2 " + // November: 5, 12, 19, 26
		"S1 S2 S3 G1 " + // December: 3, 10, 17, 23
		"S4" // 7 January
	if got != want {
		t.Errorf("the sets of the year are\n%s, not\n%s", got, want)
	}
}
