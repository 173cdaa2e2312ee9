package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

func TestExposureGoesByTheNewestVerifiedCopyThatLiesOutside(t *testing.T) {
	bank := func(label string, points ...rotation.ShelfPoint) rotation.ShelfDrive {
		return drive(label, custody.Offsite, on(13, 17), points...)
	}
	part := func(sequence uint64, at time.Time, id, other string) rotation.ShelfPoint {
		p := taken(sequence, at)
		p.ID, p.Together, p.Parts = id, []string{"id-A", "id-B"}, []string{"part-A", "part-B"}
		return p
	}
	unread := taken(2, on(12, 22))
	unread.VerifiedAt = time.Time{}
	recalled, courier := bank("A", taken(1, on(5, 22))), drive("A", custody.Courier, on(13, 17), taken(1, on(5, 22)))
	recalled.Place.State = custody.Recall
	suspect := bank("B", taken(2, on(12, 22)))
	suspect.Suspect = "its head went back"
	for name, c := range map[string]struct {
		drives []rotation.ShelfDrive
		want   string
	}{
		"nothing outside":              {[]rotation.ShelfDrive{drive("A", custody.Onsite, on(1, 9), taken(1, on(5, 22)))}, "nothing, missed"},
		"outside":                      {[]rotation.ShelfDrive{bank("A", taken(1, on(5, 22)))}, "p1 on A, missed"},
		"the newest of two":            {[]rotation.ShelfDrive{bank("A", taken(1, on(5, 22))), bank("B", taken(2, on(12, 22)))}, "p2 on B"},
		"called back, still there":     {[]rotation.ShelfDrive{recalled}, "p1 on A, missed"},
		"with a courier":               {[]rotation.ShelfDrive{courier}, "nothing, missed"},
		"not verified":                 {[]rotation.ShelfDrive{bank("A", taken(1, on(5, 22)), unread)}, "p1 on A, missed"},
		"not believed":                 {[]rotation.ShelfDrive{bank("A", taken(1, on(5, 22))), suspect}, "p1 on A, missed"},
		"two parts, both outside":      {[]rotation.ShelfDrive{bank("A", part(2, on(12, 22), "part-A", "B")), bank("B", part(2, on(12, 22), "part-B", "A"))}, "part-A on A"},
		"two parts, one in the house":  {[]rotation.ShelfDrive{bank("A", part(2, on(12, 22), "part-A", "B")), drive("B", custody.Onsite, on(1, 9), part(2, on(12, 22), "part-B", "A"))}, "nothing, missed"},
		"two parts, one was forgotten": {[]rotation.ShelfDrive{bank("A", part(2, on(12, 22), "part-A", "B"), taken(1, on(5, 22))), bank("B")}, "p1 on A, missed"},
	} {
		t.Run(name, func(t *testing.T) {
			e := rotation.Decide(on(17, 10), twoDrives(), shelf(c.drives...)).Exposure[0]
			got := "nothing"
			if e.DriveID != "" {
				got = e.PointID + " on " + e.Label
			}
			if e.Missed {
				got += ", missed"
			}
			if got != c.want {
				t.Errorf("%s, not %s", got, c.want)
			}
			if e.DriveID != "" && !e.InHandAt.Equal(on(17, 14)) {
				t.Errorf("it is in hand at %s", e.InHandAt)
			}
		})
	}
}

func TestADriveIsInHandWhenItsPlaceIsOpen(t *testing.T) {
	p := twoDrives()
	p.Locations[1].OpenDays = []time.Weekday{time.Monday, time.Thursday}
	p.Locations[1].LeadTime = 24 * time.Hour
	p.Calendar.Holidays = []rotation.Date{{Year: 2026, Month: time.November, Day: 19}}
	e := rotation.Decide(on(17, 10), p, shelf(drive("A", custody.Offsite, on(13, 17), taken(1, on(12, 22))))).Exposure[0]
	if want := on(23, 0); !e.InHandAt.Equal(want) {
		t.Errorf("in hand at %s, not on Monday: Thursday is a holiday", e.InHandAt)
	}
}

func TestEachVerdictSaysWhy(t *testing.T) {
	a := drive("A", custody.Onsite, on(1, 9), taken(1, on(2, 22)), taken(2, on(3, 22)), taken(3, on(9, 22)), taken(4, on(10, 22)), taken(5, on(11, 22)), taken(6, on(12, 22)), taken(7, on(12, 23)))
	a.Attached = true
	a.Points[0].Held, a.Points[0].HeldUntil = "the auditors", on(30, 12)
	a.Points[6].VerifiedAt = time.Time{}
	p := twoDrives()
	p.Retention = rotation.Retention{Last: 2, Daily: 3, Weekly: 2}
	var got []string
	for _, v := range rotation.Decide(on(13, 10), p, shelf(a)).Verdicts {
		got = append(got, fmt.Sprintf("%s %v %s", v.PointID, v.Keep, v.Why))
	}
	want := []string{
		"p7 true the newest point of web on this drive: the next export reads only what changed since",
		"p6 true the last verified copy of web is on this drive",
		"p5 true daily 2 of 3: the newest of 2026-11-11",
		"p4 true daily 3 of 3: the newest of 2026-11-10",
		"p3 false no rule keeps it: last 2, daily 3, weekly 2",
		"p2 true weekly 2 of 2: the newest of 2026-W45",
		"p1 true held until 2026-11-30: the auditors",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the verdicts are\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhoGoesWhereAndWhen(t *testing.T) {
	p := twoDrives()
	p.People = []rotation.Person{{Name: "Ann", Deputies: []string{"Cid"}, Left: rotation.Date{Year: 2026, Month: time.November, Day: 18}}, {Name: "Bob"}, {Name: "Cid"}}
	p.Locations[1].OpenDays = []time.Weekday{time.Monday, time.Tuesday}
	p.Locations[1].LeadTime = 24 * time.Hour
	a, b := drive("A", custody.Onsite, on(13, 17), taken(1, on(19, 22))), drive("B", custody.Offsite, on(13, 16), taken(1, on(12, 22)))
	a.Place.Holder = "Ann"
	check := func(want string, authorised ...string) {
		t.Helper()
		p.Locations[1].Authorised = authorised
		var got []string
		d := rotation.Decide(on(20, 10), p, shelf(a, b))
		for _, s := range d.Steps {
			if s.Kind == rotation.StepDeposit || s.Kind == rotation.StepRecall {
				got = append(got, fmt.Sprintf("%s by %q on %s", s.Kind, s.Person, s.Due))
			}
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s, not %s", text, want)
		}
		if !slices.Contains(d.Reminders, "Ann has drive A, and left on 2026-11-18; Cid may stand in") {
			t.Errorf("nobody says that Ann left: %q", d.Reminders)
		}
	}
	// The bank is open on Monday; a day before is Sunday, so the call is on Friday.
	check(`deposit by "Cid" on 2026-11-23, recall by "Cid" on 2026-11-20`)
	check(`deposit by "Bob" on 2026-11-23, recall by "Bob" on 2026-11-20`, "Ann", "Bob")
	check(`deposit by "" on 2026-11-23, recall by "" on 2026-11-20`, "Ann")
}

// What Ann should have done before she left is not hers to do any more.
func TestAnOverdueStepGoesToSomebodyWhoIsThere(t *testing.T) {
	p := twoDrives()
	p.People = []rotation.Person{{Name: "Ann", Left: rotation.Date{Year: 2026, Month: time.November, Day: 18}}, {Name: "Bob"}}
	a, b := drive("A", custody.Onsite, on(6, 17), taken(1, on(12, 22))), drive("B", custody.Offsite, on(6, 16), taken(1, on(5, 22)))
	d := rotation.Decide(on(19, 10), p, shelf(a, b))
	if len(d.Steps) == 0 || !d.Steps[0].Due.Before(d.Day) {
		t.Fatalf("nothing is overdue: %+v", d.Steps)
	}
	for _, s := range d.Steps {
		if s.Person != "Bob" || s.To.Holder == "Ann" {
			t.Errorf("%s by %q, then held by %q", s.ID, s.Person, s.To.Holder)
		}
	}
}

func TestADriveThatFillsUpIsToldOfInTime(t *testing.T) {
	a := drive("A", custody.Onsite, on(1, 9))
	a.Fills = []rotation.Fill{{At: on(1, 0), FreeBytes: 1000}, {At: on(11, 0), FreeBytes: 800}}
	if got, want := a.FullAt(), on(11, 0).Add(40*24*time.Hour); !got.Equal(want) {
		t.Errorf("full at %s, not %s", got, want)
	}
	for name, fills := range map[string][]rotation.Fill{"unknown": nil, "once": a.Fills[:1], "gets emptier": {a.Fills[1], a.Fills[0]}, "never": {{At: on(1, 0), FreeBytes: 1 << 50}, {At: on(11, 0), FreeBytes: 1<<50 - 1}}} {
		if got := (rotation.ShelfDrive{Fills: fills}).FullAt(); !got.IsZero() {
			t.Errorf("%s: full at %s", name, got)
		}
	}
}

func TestAClockThatJumpedIsDoubtedUntilSomebodySaysThatItIsRight(t *testing.T) {
	year := 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		recorded []time.Time
		want     time.Time
	}{
		"never":        {[]time.Time{on(1, 0), on(2, 0), on(20, 0)}, time.Time{}},
		"ahead":        {[]time.Time{on(1, 0), on(2, 0).Add(year), on(3, 0).Add(year)}, on(2, 0).Add(year)},
		"and back":     {[]time.Time{on(1, 0), on(2, 0).Add(year), on(3, 0)}, on(2, 0).Add(year)},
		"some minutes": {[]time.Time{on(1, 1), on(1, 1).Add(-5 * time.Minute)}, time.Time{}},
	} {
		if got := rotation.ClockJump(c.recorded); !got.Equal(c.want) {
			t.Errorf("%s: it jumped at %s, not %s", name, got, c.want)
		}
	}
	s := shelf(drive("A", custody.Onsite, on(1, 9), taken(1, on(12, 22))))
	for name, c := range map[string]struct {
		now             time.Time
		jump, confirmed time.Time
		doubted         bool
	}{
		"as it should be":             {on(13, 9), time.Time{}, time.Time{}, false},
		"before the last commit":      {on(11, 9), time.Time{}, time.Time{}, true},
		"46 days after it":            {on(12, 22).AddDate(0, 0, 46), time.Time{}, time.Time{}, true},
		"which somebody said is so":   {on(12, 22).AddDate(0, 0, 46), time.Time{}, on(12, 21).AddDate(0, 0, 46), false},
		"and 46 days later nobody":    {on(12, 22).AddDate(0, 0, 92), time.Time{}, on(12, 21).AddDate(0, 0, 46), true},
		"it jumped before":            {on(13, 9), on(10, 9), time.Time{}, true},
		"it jumped, and is confirmed": {on(13, 9), on(10, 9), on(11, 9), false},
	} {
		s := s
		s.ClockJumpAt = c.jump
		if !c.confirmed.IsZero() {
			last := s.LastCommit
			s.ConfirmClock(c.confirmed, last)
			if last.After(c.confirmed) {
				s.LastCommit = last
			}
		}
		if doubt := rotation.Decide(c.now, twoDrives(), s).Doubt; (doubt != "") != c.doubted {
			t.Errorf("%s: the doubt is %q", name, doubt)
		}
	}
}

// TestAConfirmedClockIsDoubtedAgain: what a person said settles what was before it.
func TestAConfirmedClockIsDoubtedAgain(t *testing.T) {
	ahead := on(12, 22).AddDate(0, 0, 100)
	for name, c := range map[string]struct {
		now                       time.Time
		newest, last, jump, point time.Time
		doubted                   bool
	}{
		"it went on": {now: on(20, 9), last: on(19, 22)},
		"it was set back, after the confirmation": {now: on(12, 9), last: on(19, 22), doubted: true},
		"it was set back, before it":              {now: on(9, 9), doubted: true},
		"it was set back, committed, and is back": {now: on(13, 9), last: on(12, 22), jump: on(10, 9), doubted: true},
		"it is ahead, and committed":              {now: ahead.AddDate(0, 0, 1), last: ahead, jump: ahead, doubted: true},
		"it was ahead before, and that is known":  {now: on(13, 9), newest: ahead.Add(time.Hour), point: ahead},
		"it was ahead before, and set back again": {now: on(12, 9), newest: ahead.Add(time.Hour), point: ahead, last: on(19, 22), doubted: true},
		"ahead of what was known":                 {now: on(13, 9), newest: ahead.Add(time.Hour), point: ahead.AddDate(0, 0, 1), doubted: true},
		"nobody exported for long":                {now: on(10, 9).AddDate(0, 0, 46), doubted: true},
	} {
		s := shelf(drive("A", custody.Onsite, on(1, 9), taken(1, on(5, 22))))
		s.ClockJumpAt = on(9, 9)
		s.ConfirmClock(on(10, 9), c.newest)
		if !c.last.IsZero() {
			s.LastCommit = c.last
		}
		if !c.point.IsZero() {
			s.Drives[0].Points = append(s.Drives[0].Points, taken(2, c.point))
		}
		s.ClockJumpAt = c.jump
		if doubt := rotation.Decide(c.now, twoDrives(), s).Doubt; (doubt != "") != c.doubted {
			t.Errorf("%s: the doubt is %q", name, doubt)
		}
	}
}

// TestDecideTakesWhateverItIsGiven: policies that nobody would write, shelves that
// cannot be.
func TestDecideTakesWhateverItIsGiven(t *testing.T) {
	texts := rapid.SampledFrom([]string{"", "A", "B", "id-A", "id-B", "web", "bank", "Ann", "son", "father"})
	times := rapid.Custom(func(t *rapid.T) time.Time {
		return rapid.SampledFrom([]time.Time{{}, on(1, 2), on(20, 9), time.Unix(1<<40, 0), time.Unix(-1<<40, 0)}).Draw(t, "time")
	})
	states := rapid.SampledFrom([]custody.State{"", custody.Onsite, custody.Courier, custody.Offsite, custody.Recall, custody.Lost, "odd"})
	numbers := rapid.IntRange(-3, 3)
	rapid.Check(t, func(t *rapid.T) {
		p := rotation.Policy{
			Calendar: rotation.Calendar{DayEnds: time.Duration(numbers.Draw(t, "ends")) * 20 * time.Hour, Workdays: rapid.SliceOfN(rapid.Map(numbers, func(n int) time.Weekday { return time.Weekday(n) }), 0, 3).Draw(t, "workdays")},
			Scheme:   rotation.Scheme{Kind: rapid.SampledFrom([]rotation.SchemeKind{"", rotation.SchemeGFS, rotation.SchemeHanoi, "odd"}).Draw(t, "kind"), Weekly: rapid.Bool().Draw(t, "weekly"), SwapDay: time.Weekday(numbers.Draw(t, "day")), Start: rotation.Date{Year: numbers.Draw(t, "year"), Month: time.Month(numbers.Draw(t, "month"))}},
			People:   []rotation.Person{{Name: texts.Draw(t, "name"), Deputies: []string{texts.Draw(t, "deputy")}}},
			Locations: []rotation.Location{{Name: texts.Draw(t, "place"), Offsite: rapid.Bool().Draw(t, "offsite"), LeadTime: time.Duration(numbers.Draw(t, "lead")) * time.Hour,
				OpenDays: []time.Weekday{time.Weekday(numbers.Draw(t, "open"))}}},
			Retention: rotation.Retention{Last: numbers.Draw(t, "last"), Weekly: numbers.Draw(t, "weeks"), MaxAge: time.Duration(numbers.Draw(t, "age")), AllDrives: rapid.Bool().Draw(t, "all")},
		}
		for range rapid.IntRange(0, 3).Draw(t, "sets") {
			p.Scheme.Sets = append(p.Scheme.Sets, rotation.Set{Name: texts.Draw(t, "set"), Drives: rapid.SliceOfN(texts, 0, 3).Draw(t, "drives"), Role: texts.Draw(t, "role")})
		}
		var s rotation.Shelf
		for range rapid.IntRange(0, 3).Draw(t, "drives") {
			d := rotation.ShelfDrive{Drive: lifeboat.Drive{ID: texts.Draw(t, "id"), Label: texts.Draw(t, "label"), CreatedAt: times.Draw(t, "made")}, Place: custody.Place{State: states.Draw(t, "state")}, Since: times.Draw(t, "since"), Attached: rapid.Bool().Draw(t, "attached"), EjectedAt: times.Draw(t, "ejected"), DepositedAt: times.Draw(t, "deposited")}
			for range rapid.IntRange(0, 4).Draw(t, "points") {
				d.Points = append(d.Points, rotation.ShelfPoint{ID: texts.Draw(t, "point"), MachineID: texts.Draw(t, "machine"), Sequence: uint64(numbers.Draw(t, "sequence")), TakenAt: times.Draw(t, "taken"), VerifiedAt: times.Draw(t, "verified"), RunID: rapid.SampledFrom([]string{"", "run", "next"}).Draw(t, "run"),
					Together: rapid.SliceOfN(texts, 0, 3).Draw(t, "together"), Parts: rapid.SliceOfN(texts, 0, 3).Draw(t, "parts"), Held: rapid.SampledFrom([]string{"", "the auditors"}).Draw(t, "held"), HeldUntil: times.Draw(t, "until"), Copied: rapid.Bool().Draw(t, "copied")})
			}
			s.Drives = append(s.Drives, d)
		}
		for range rapid.IntRange(0, 2).Draw(t, "machines") {
			s.Machines = append(s.Machines, rotation.ShelfMachine{ID: texts.Draw(t, "machine"), Name: texts.Draw(t, "name"), Retired: rapid.Bool().Draw(t, "retired")})
		}
		now, at := times.Draw(t, "now"), times.Draw(t, "at")
		for _, step := range rotation.Decide(now, p, s).Steps {
			// Also a step that is done twice leads to a shelf that can be decided on.
			after := rotation.After(p, rotation.After(p, s, step, at), step, at)
			rotation.Breaks(p, after, step)
			rotation.Decide(now, p, after)
		}
		rotation.Recover(p, s, nil)
		for _, d := range s.Drives {
			rotation.Untouched(s, d.ID)
			rotation.Loses(s, d.ID, []string{texts.Draw(t, "goes")})
		}
	})
}

// A part that its other parts do not name is a part alone: it is decided about, and
// is no copy of its machine.
func TestAPartThatNobodyNamesIsNoCopy(t *testing.T) {
	part := func(sequence uint64, id string, parts ...string) rotation.ShelfPoint {
		p := taken(sequence, on(12, 22))
		p.ID, p.Together, p.Parts = id, []string{"id-A", "id-B"}, parts
		return p
	}
	a := drive("A", custody.Offsite, on(13, 17), part(1, "a", "a", "elsewhere"))
	b := drive("B", custody.Offsite, on(13, 17), part(1, "b", "a", "b"))
	a.Attached, b.Attached = true, true
	d := rotation.Decide(on(17, 10), twoDrives(), shelf(a, b))
	if e := d.Exposure[0]; e.DriveID != "" {
		t.Errorf("one half is taken for the machine: %+v", e)
	}
	for _, v := range d.Verdicts {
		if !v.Keep {
			t.Errorf("%s goes: %s", v.PointID, v.Why)
		}
	}
}
