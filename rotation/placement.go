package rotation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lifeboat/custody"
)

// DefaultGrowth is the part of a machine's data that is kept free for what
// changes in it, where nobody says another.
const DefaultGrowth = 0.2

// placeReserve is the part of a drive that placing leaves alone: a file system
// that is full to the brim is slow.
const placeReserve = 0.05

// Placing is what a placement is decided from.
type Placing struct {
	Set Set
	// Drives are all drives that are known; those of the set are found by label.
	Drives   []ShelfDrive
	Machines []ShelfMachine
	// Growth is the part of its data by which each machine may grow before its
	// drive is full; 0 means [DefaultGrowth].
	Growth float64
	// Reserve is what is left free on each drive at the least: a store keeps room
	// for a prune to work in.
	Reserve int64
}

// Placement says on which drives of a set the machines lie.
type Placement struct {
	Set      string          `json:"set"`
	Machines []PlacedMachine `json:"machines"`
	Drives   []PlacedDrive   `json:"drives"`
	// Warnings are what a person should do something about, in words.
	Warnings []string `json:"warnings,omitempty"`
}

// PlacedMachine is where the disks of one machine lie, or why they lie nowhere.
type PlacedMachine struct {
	MachineID string `json:"machineId"`
	Machine   string `json:"machine"`
	// Drives are the ids of its drives by the keys of its disks. A machine whose
	// disks nobody knows yet has one under the empty key.
	Drives map[string]string `json:"drives,omitempty"`
	// Why says how it came there. Refused says why it is on no drive, and which
	// drive would do.
	Why     string `json:"why,omitempty"`
	Refused string `json:"refused,omitempty"`
	// MoveBytes is what has to be written anew because it moves from another
	// drive of the set.
	MoveBytes int64 `json:"moveBytes,omitempty"`
}

// Split says that its disks lie on more than one drive.
func (m PlacedMachine) Split() bool { return len(m.DriveIDs()) > 1 }

// DriveIDs lists its drives, each once.
func (m PlacedMachine) DriveIDs() []string {
	return slices.Compact(slices.Sorted(maps.Values(m.Drives)))
}

// PlacedDrive is what one drive of the set has to take.
type PlacedDrive struct {
	DriveID string `json:"driveId,omitempty"`
	Label   string `json:"label"`
	// RoomBytes is what may be written to it, without its reserve; NeedBytes what
	// the machines on it need of that: what is new on it, and room to grow.
	RoomBytes int64 `json:"roomBytes"`
	NeedBytes int64 `json:"needBytes"`
	// Unusable says why nothing is placed on it.
	Unusable string `json:"unusable,omitempty"`
}

// Machine returns the place of a machine by its id.
func (p Placement) Machine(id string) (PlacedMachine, bool) {
	i := slices.IndexFunc(p.Machines, func(m PlacedMachine) bool { return m.MachineID == id })
	if i < 0 {
		return PlacedMachine{}, false
	}
	return p.Machines[i], true
}

// Refused lists the machines that are on no drive.
func (p Placement) Refused() []PlacedMachine {
	return slices.DeleteFunc(slices.Clone(p.Machines), func(m PlacedMachine) bool { return m.Refused == "" })
}

// Place spreads machines over the drives of a set. Where a machine lies it stays
// ([ShelfMachine.Home]), unless its drive is gone or full; the largest of the
// others are placed first. A machine is kept on one drive where one has the room;
// else its disks are spread, each disk whole. What fits nowhere is refused, with
// the size of the drive that would do.
//
// Sizes are those of the data before it is compressed, which nobody knows before
// it was written once: what compression saves is room for older points.
func Place(p Placing) Placement {
	pl := &placer{growth: cmp.Or(p.Growth, DefaultGrowth), reserve: p.Reserve, out: Placement{Set: p.Set.Name}, set: p.Set}
	pl.addDrives(p)
	machines := slices.SortedFunc(slices.Values(p.Machines), func(a, b ShelfMachine) int {
		return cmp.Or(cmp.Compare(dataOf(b), dataOf(a)), strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	machines = slices.DeleteFunc(machines, func(m ShelfMachine) bool { return m.Retired })
	homeless := pl.settle(machines)
	pl.relieve()
	for _, m := range homeless {
		pl.place(m)
	}
	slices.SortFunc(pl.out.Machines, func(a, b PlacedMachine) int {
		return cmp.Or(strings.Compare(a.Machine, b.Machine), strings.Compare(a.MachineID, b.MachineID))
	})
	for _, d := range pl.drives {
		pl.out.Drives = append(pl.out.Drives, d.PlacedDrive)
	}
	return pl.out
}

// placer is a placement that is being made.
type placer struct {
	set    Set
	growth float64
	// reserve is what each drive keeps free at the least.
	reserve int64
	drives  []*placedDrive
	out     Placement
}

type placedDrive struct {
	PlacedDrive
	// empty is what a drive of its size has room for when nothing else is on it.
	empty int64
	// stays are the machines that lie on it whole already.
	stays []ShelfMachine
}

func (d *placedDrive) left() int64 { return d.RoomBytes - d.NeedBytes }

// placing is a machine, or what of it has no place yet.
type placing struct {
	machine ShelfMachine
	disks   []ShelfDisk
	// out is what is known of it so far; why says why it moves, "" for what is new.
	out PlacedMachine
	why string
}

func (pl *placer) addDrives(p Placing) {
	for _, label := range p.Set.Drives {
		pl.drives = append(pl.drives, placedOf(label, p))
	}
}

// placedOf is the drive of a label: of several, such as a lost one and the one that
// was made in its place, the first that can be used.
func placedOf(label string, p Placing) *placedDrive {
	found := &placedDrive{PlacedDrive: PlacedDrive{Label: label, Unusable: "no such drive was made yet"}}
	for _, s := range p.Drives {
		if s.Label != label {
			continue
		}
		if found = newPlacedDrive(s, p.Reserve); found.Unusable == "" {
			break
		}
	}
	return found
}

func newPlacedDrive(s ShelfDrive, least int64) *placedDrive {
	d := &placedDrive{PlacedDrive: PlacedDrive{DriveID: s.ID, Label: s.Label}}
	switch s.Place.State {
	case custody.Lost, custody.Retired, custody.Quarantined:
		d.Unusable = "it is " + string(s.Place.State)
		return d
	}
	if s.TotalBytes <= 0 {
		d.Unusable = "its size is not known: attach it once"
		return d
	}
	reserve := max(least, int64(float64(s.TotalBytes)*placeReserve))
	d.RoomBytes, d.empty = max(0, s.FreeBytes-reserve), max(0, s.TotalBytes-reserve)
	return d
}

// drive finds a drive that things may lie on.
func (pl *placer) drive(id string) *placedDrive {
	for _, d := range pl.drives {
		if id != "" && d.DriveID == id && d.Unusable == "" {
			return d
		}
	}
	return nil
}

// lost says why a drive that something lies on is none to stay on.
func (pl *placer) lost(id string) string {
	for _, d := range pl.drives {
		if d.DriveID == id {
			return fmt.Sprintf("drive %s cannot be used: %s", d.Label, d.Unusable)
		}
	}
	return "the drive that it lay on is not in the set any more"
}

// settle leaves everything where it lies, as far as it can, and returns what has
// to be placed, in order.
func (pl *placer) settle(machines []ShelfMachine) []placing {
	var rest []placing
	for _, m := range machines {
		home, p := m.Home[pl.set.Name], newPlacing(m)
		for _, disk := range disksOf(m) {
			d := pl.drive(home[disk.Key])
			switch {
			case d != nil:
				d.NeedBytes += pl.grows(disk)
				p.out.Drives[disk.Key] = d.DriveID
			default:
				p.disks = append(p.disks, disk)
				if home[disk.Key] != "" {
					p.why = pl.lost(home[disk.Key])
				}
			}
		}
		if len(p.disks) > 0 {
			rest = append(rest, p)
			continue
		}
		p.out.Why = "it lies there already"
		if ids := p.out.DriveIDs(); len(ids) == 1 {
			d := pl.drive(ids[0])
			d.stays = append(d.stays, m)
		}
		pl.out.Machines = append(pl.out.Machines, p.out)
	}
	return rest
}

func newPlacing(m ShelfMachine) placing {
	return placing{machine: m, out: PlacedMachine{MachineID: m.ID, Machine: m.Name, Drives: map[string]string{}}}
}

// relieve moves machines off drives that have no room for what grows on them:
// the smallest that is enough, if another drive has room for it. That comes before
// anything new is placed: what lay somewhere is never refused for what is new.
func (pl *placer) relieve() {
	for _, d := range pl.drives {
		short := -d.left()
		if d.Unusable != "" || short <= 0 {
			continue
		}
		// stays are in descending order: the last that is large enough.
		var found *ShelfMachine
		for _, m := range slices.Backward(d.stays) {
			if pl.growsAll(m) >= short && pl.roomBeside(d, m) {
				found = &m
				break
			}
		}
		if found == nil {
			pl.out.Warnings = append(pl.out.Warnings, fmt.Sprintf(
				"drive %s is nearly full: %s is missing for what will change in its machines; let it forget older points and prune it, or add a drive to set %s", d.Label, inBytes(short), pl.set.Name))
			continue
		}
		d.NeedBytes -= pl.growsAll(*found)
		p := newPlacing(*found)
		p.disks, p.why = disksOf(*found), fmt.Sprintf("drive %s is full", d.Label)
		pl.out.Machines = slices.DeleteFunc(pl.out.Machines, func(m PlacedMachine) bool { return m.MachineID == found.ID })
		pl.place(p)
	}
}

func (pl *placer) roomBeside(d *placedDrive, m ShelfMachine) bool {
	return slices.ContainsFunc(pl.drives, func(other *placedDrive) bool {
		return other != d && other.Unusable == "" && other.left() >= pl.needs(disksOf(m)...)
	})
}

// place finds drives for what has none.
func (pl *placer) place(p placing) {
	need := pl.needs(p.disks...)
	d := pl.wholeOn(p, need)
	switch {
	case d != nil:
		pl.put(&p, d, p.disks...)
		p.out.Why = fmt.Sprintf("all of it has room on drive %s", d.Label)
	case pl.spread(&p):
		p.out.Why = "no drive of the set has room for all of it, so its disks are spread"
	default:
		p.out.Refused, p.out.Drives = pl.refusal(p, need), nil
		pl.out.Machines = append(pl.out.Machines, p.out)
		return
	}
	if p.why != "" {
		for _, disk := range p.disks {
			if p.machine.Home[pl.set.Name][disk.Key] != "" {
				p.out.MoveBytes += disk.DataBytes
			}
		}
		p.out.Why = fmt.Sprintf("%s; %s; %s has to be written anew", p.why, p.out.Why, inBytes(p.out.MoveBytes))
	}
	pl.out.Machines = append(pl.out.Machines, p.out)
}

// wholeOn is the drive that takes all that has no place: one that has the rest of
// the machine already, or else the one with the most room.
func (pl *placer) wholeOn(p placing, need int64) *placedDrive {
	var best *placedDrive
	for _, d := range pl.drives {
		if d.Unusable != "" || d.left() < need {
			continue
		}
		beside := slices.Contains(p.out.DriveIDs(), d.DriveID)
		if best == nil || beside && !slices.Contains(p.out.DriveIDs(), best.DriveID) ||
			beside == slices.Contains(p.out.DriveIDs(), best.DriveID) && d.left() > best.left() {
			best = d
		}
	}
	return best
}

// spreadSteps bounds the search for a way to spread disks; machines have few.
const spreadSteps = 20_000

// spread finds a drive for each disk, the largest first, where the most room is;
// all of them or none.
func (pl *placer) spread(p *placing) bool {
	disks := slices.SortedStableFunc(slices.Values(p.disks), func(a, b ShelfDisk) int {
		return cmp.Or(cmp.Compare(b.DataBytes, a.DataBytes), strings.Compare(a.Key, b.Key))
	})
	steps := spreadSteps
	var from func(i int) bool
	from = func(i int) bool {
		if i == len(disks) {
			return true
		}
		byRoom := slices.SortedStableFunc(slices.Values(pl.drives), func(a, b *placedDrive) int { return cmp.Compare(b.left(), a.left()) })
		for _, d := range byRoom {
			if steps--; steps < 0 || d.Unusable != "" || d.left() < pl.needs(disks[i]) {
				continue
			}
			pl.put(p, d, disks[i])
			if from(i + 1) {
				return true
			}
			d.NeedBytes -= pl.needs(disks[i])
		}
		return false
	}
	return from(0)
}

func (pl *placer) put(p *placing, d *placedDrive, disks ...ShelfDisk) {
	for _, disk := range disks {
		d.NeedBytes += pl.needs(disk)
		p.out.Drives[disk.Key] = d.DriveID
	}
}

// refusal says why a machine has no place, and what would make one.
func (pl *placer) refusal(p placing, need int64) string {
	var rooms []string
	var empty, largest int64
	for _, d := range pl.drives {
		if d.Unusable != "" {
			rooms = append(rooms, fmt.Sprintf("%s: %s", d.Label, d.Unusable))
			continue
		}
		rooms = append(rooms, fmt.Sprintf("%s has room for %s", d.Label, inBytes(max(0, d.left()))))
		empty = max(empty, d.empty)
	}
	if len(rooms) == 0 {
		rooms = []string{"the set has no drives"}
	}
	for _, disk := range p.disks {
		largest = max(largest, pl.needs(disk))
	}
	text := fmt.Sprintf("%s needs %s (its data and %.0f%% to grow); ", p.machine.Name, inBytes(need), pl.growth*100) + strings.Join(rooms, ", ")
	size := max(int64(float64(need)/(1-placeReserve)), need+pl.reserve)
	if largest > empty && len(p.disks) > 1 {
		return text + fmt.Sprintf("; one of its disks alone needs %s, and a disk is never divided: a drive of %s would do", inBytes(largest), inBytes(size))
	}
	return text + fmt.Sprintf("; another drive of %s in set %s would do", inBytes(size), pl.set.Name)
}

func (pl *placer) grows(d ShelfDisk) int64 { return int64(float64(d.DataBytes) * pl.growth) }

func (pl *placer) growsAll(m ShelfMachine) (sum int64) {
	for _, d := range disksOf(m) {
		sum += pl.grows(d)
	}
	return sum
}

// needs is what disks take that are not on a drive yet.
func (pl *placer) needs(disks ...ShelfDisk) (sum int64) {
	for _, d := range disks {
		sum += d.DataBytes + pl.grows(d)
	}
	return sum
}

// disksOf are a machine's disks; one of unknown name where nobody knows them.
func disksOf(m ShelfMachine) []ShelfDisk {
	if len(m.Disks) > 0 {
		return m.Disks
	}
	return []ShelfDisk{{DataBytes: m.DataBytes}}
}

func dataOf(m ShelfMachine) (sum int64) {
	for _, d := range disksOf(m) {
		sum += d.DataBytes
	}
	return sum
}

// inBytes says a number of bytes as the makers of drives count: in powers of 1000.
func inBytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	size, i := float64(n), 0
	for size >= 999.5 && i < len(units)-1 {
		size, i = size/1000, i+1
	}
	if i == 0 || size >= 99.5 {
		return fmt.Sprintf("%.0f %s", size, units[i])
	}
	return fmt.Sprintf("%.1f %s", size, units[i])
}
