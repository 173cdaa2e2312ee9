package rotation

import "time"

// Policy is what people decided about their drives; site.yaml says it in the
// section `rotation`. It is plain data: the same policy and the same shelf give
// the same decision on every computer.
type Policy struct {
	Calendar   Calendar
	Scheme     Scheme
	Locations  []Location
	People     []Person
	Objectives Objectives
	Retention  Retention
	// RetentionOf replaces Retention for machines, by name, and RetentionOn for
	// drives, by label; a drive's wins.
	RetentionOf map[string]Retention
	RetentionOn map[string]Retention
	// ExportToWrongDrive: a drive that is not today's is exported to, with a
	// warning, instead of refused.
	ExportToWrongDrive bool
	// Standing is the store that every export writes to, and that drives are
	// filled from; empty: none. It never counts as offsite.
	Standing string
	// VerifyEvery and ProveEvery say how old the last verification and the last
	// proof of a drive may be before they are due; 0: never due.
	VerifyEvery, ProveEvery time.Duration
}

// Date is a day of the site's calendar.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// Calendar says which days are worked, and where a day ends.
type Calendar struct {
	// Zone is the site's; nil means UTC.
	Zone *time.Location
	// DayEnds is the time of day, on the wall, until which a run belongs to the
	// day before; 0 means [DefaultDayEnds].
	DayEnds time.Duration
	// Workdays are Monday to Friday if empty.
	Workdays []time.Weekday
	Holidays []Date
}

// SchemeKind names how drives take turns.
type SchemeKind string

// The schemes.
const (
	// SchemeRoundRobin: the sets take turns, in their order. Two sets are A/B.
	SchemeRoundRobin SchemeKind = "round-robin"
	// SchemeGFS: sons in turn; at the end of a month a father, of a year a
	// grandfather.
	SchemeGFS SchemeKind = "gfs"
	// SchemeHanoi: the first set every second turn, the next every fourth, and
	// so on: the tower of Hanoi.
	SchemeHanoi SchemeKind = "hanoi"
)

// Scheme says which set is written when.
type Scheme struct {
	Kind SchemeKind
	Sets []Set
	// Weekly: sets change once a week, on SwapDay or the last workday before it;
	// else every workday.
	Weekly  bool
	SwapDay time.Weekday
	// Start is a day of the first turn; only the tower of Hanoi counts turns
	// from somewhere. Zero: a fixed day long ago.
	Start Date
}

// Set is one or more drives that are written together; only together they hold
// all machines.
type Set struct {
	Name   string
	Drives []string // labels
	// Role is [RoleSon], [RoleFather] or [RoleGrandfather] in a GFS scheme; empty
	// is a son.
	Role string
}

// The roles of the sets of a GFS scheme.
const (
	RoleSon         = "son"
	RoleFather      = "father"
	RoleGrandfather = "grandfather"
)

// Location is a place where drives are kept.
type Location struct {
	Name    string
	Offsite bool
	Contact string
	// Hours are opening hours in words, for people; OpenDays are the days on
	// which something can be brought or fetched, empty: any day.
	Hours    string
	OpenDays []time.Weekday
	// LeadTime is how long it takes from a call until a drive is in one's hands.
	LeadTime time.Duration
	// Authorised are the people whom the place lets in; empty: anyone.
	Authorised []string
}

// Person is a custodian: somebody who carries, keeps and signs.
type Person struct {
	Name    string
	Contact string
	// Deputies stand in, in this order.
	Deputies []string
	// Left is the day on which the person left; zero: is here.
	Left Date
}

// Objectives are maximum ages of the newest verified point that is offsite.
type Objectives struct {
	Offsite time.Duration
	// Of is by machine's name.
	Of map[string]time.Duration
}

// Retention says which points of one machine on one drive are kept. A point that
// any rule keeps stays. Without a number or Within, MaxAge alone lets go; the zero
// value keeps all. Daily, Weekly, Monthly and Yearly keep the newest point of each
// day, ISO week, month and year of the site's calendar, counted from the newest
// point and not from now.
type Retention struct {
	Last, Daily, Weekly, Monthly, Yearly int
	// Within keeps everything that is not older than this, counted back from the
	// newest point.
	Within time.Duration
	// MaxAge lets go of what is older, whatever the other rules keep; counted from
	// the newest point as well. Holds and last good copies stay.
	MaxAge time.Duration
	// AllDrives counts the points of a machine on all drives of the site together,
	// instead of those of each drive by themselves. What an absent drive may
	// forget is still decided when it returns.
	AllDrives bool
}
