package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lifeboat/custody"
	"lifeboat/rotation"
)

// parted is part i of the machine at a moment, on drive A or drive B.
func parted(sequence uint64, i int) rotation.ShelfPoint {
	p := taken(sequence, on(int(sequence), 22))
	p.Together, p.Parts = []string{"id-A", "id-B"}, []string{fmt.Sprintf("p%d-A", sequence), fmt.Sprintf("p%d-B", sequence)}
	p.ID = p.Parts[i]
	return p
}

func TestThePartsOfAMachineAreKeptOrForgottenTogether(t *testing.T) {
	const gone, here = "forgotten", "kept"
	for name, c := range map[string]struct {
		change func(p *rotation.Policy, a, b *rotation.ShelfDrive)
		a, b   string
		why    string
	}{
		"both are here":          {nil, gone, gone, "no rule keeps it"},
		"the other part is held": {func(_ *rotation.Policy, _, b *rotation.ShelfDrive) { b.Points[0].Held = "the auditors" }, here, here, "another part of it is held: the auditors"},
		"the hold is over": {func(_ *rotation.Policy, _, b *rotation.ShelfDrive) {
			b.Points[0].Held, b.Points[0].HeldUntil = "the auditors", on(3, 0)
		}, gone, gone, "no rule keeps it"},
		"the other drive is away": {func(_ *rotation.Policy, _, b *rotation.ShelfDrive) { b.Attached = false }, here, here, "drive B, which is not here: they are decided together"},
		"the other drive is set aside": {func(_ *rotation.Policy, a, b *rotation.ShelfDrive) {
			b.Place.State = custody.Quarantined
			a.Points = append(a.Points, taken(4, on(13, 22)))
		}, here, here, "nothing is changed: it is quarantined"},
		"the other drive is lost": {func(_ *rotation.Policy, _, b *rotation.ShelfDrive) { b.Place.State = custody.Lost }, here, here, "not all in reach"},
		"it is lost, and a newer point is good": {func(_ *rotation.Policy, a, b *rotation.ShelfDrive) {
			b.Place.State = custody.Lost
			a.Points = append(a.Points, taken(4, on(13, 22)))
		}, gone, here, "no rule keeps it"},
		"the other drive is not known": {func(_ *rotation.Policy, a, b *rotation.ShelfDrive) {
			b.ID = "id-X"
			a.Points = append(a.Points, taken(4, on(13, 22)))
		}, here, here, "on a drive that is not known"},
		"the other part never came": {func(_ *rotation.Policy, a, b *rotation.ShelfDrive) { b.Points = b.Points[1:] }, gone, "", "no rule keeps it"},
		"a rule of the other drive keeps it": {func(p *rotation.Policy, _, _ *rotation.ShelfDrive) {
			p.RetentionOn = map[string]rotation.Retention{"B": {Last: 9}}
		}, here, here, "its other part, on drive B, stays"},
	} {
		t.Run(name, func(t *testing.T) {
			p := twoDrives()
			p.Retention = rotation.Retention{Last: 1}
			a := drive("A", custody.Onsite, on(1, 9), parted(1, 0), parted(2, 0), parted(3, 0))
			b := drive("B", custody.Onsite, on(1, 9), parted(1, 1), parted(2, 1), parted(3, 1))
			a.Attached, b.Attached = true, true
			if c.change != nil {
				c.change(&p, &a, &b)
			}
			d := rotation.Decide(on(17, 10), p, shelf(a, b))
			said := func(id string) (word, why string) {
				i := slices.IndexFunc(d.Verdicts, func(v rotation.Verdict) bool { return v.PointID == id })
				switch {
				case i < 0:
					return "", ""
				case d.Verdicts[i].Keep:
					return here, d.Verdicts[i].Why
				}
				return gone, d.Verdicts[i].Why
			}
			wordA, why := said("p1-A")
			wordB, _ := said("p1-B")
			if wordA != c.a || wordB != c.b || !strings.Contains(why, c.why) {
				t.Errorf("part A is %s, part B %s: %s", wordA, wordB, why)
			}
		})
	}
}

// A copy of a part stands for it where the drive of the part is lost.
func TestACopyOfAPartBelongsToTheOtherParts(t *testing.T) {
	p := twoDrives()
	p.Retention = rotation.Retention{Last: 1}
	a := drive("A", custody.Onsite, on(1, 9), parted(1, 0), parted(3, 0))
	b := drive("B", custody.Onsite, on(1, 9), parted(1, 1), parted(3, 1))
	c := drive("C", custody.Offsite, on(1, 9), parted(1, 0))
	c.Points[0].Copied = true
	a.Place.State, b.Attached = custody.Lost, true
	for _, v := range rotation.Decide(on(17, 10), p, shelf(a, b, c)).Verdicts {
		if !v.Keep {
			t.Errorf("%s is forgotten: %s", v.PointID, v.Why)
		}
		if v.PointID == "p1-B" && !strings.Contains(v.Why, "the last verified copy") {
			t.Errorf("with the copy on C it is the last one that is whole: %s", v.Why)
		}
	}
	// Where the copy alone is here, the rules decide about it as about any point.
	b.Attached, c.Attached = false, true
	c.Points = append(c.Points, taken(4, on(13, 22)))
	d := rotation.Decide(on(17, 10), p, shelf(a, b, c))
	if i := slices.IndexFunc(d.Verdicts, func(v rotation.Verdict) bool { return v.DriveID == "id-C" && v.PointID == "p1-A" }); !d.Verdicts[i].Keep || !strings.Contains(d.Verdicts[i].Why, "drive B, which is not here") {
		t.Errorf("%+v", d.Verdicts[i])
	}
}
