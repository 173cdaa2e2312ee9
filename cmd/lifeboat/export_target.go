package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/rotation"
)

// exportTarget is where an export goes: to the standing store, to a drive, or to
// the first and from there to the second.
type exportTarget struct {
	// drive is the path or label of the drive; empty where refused says why, or
	// where the one that is attached is meant.
	drive string
	// driveID is the drive that has to be found there; empty: any of the site.
	driveID string
	// set is the set that is written, where it has several drives or was named;
	// drive is empty then.
	set rotation.Set
	// standing is the path of the standing store; empty: there is none, or it was
	// named as the drive itself.
	standing string
	// refused says why no drive is written.
	refused error
	// warning is what a person should know of the choice.
	warning string
}

// exportTarget finds out where an export goes. Without a rotation that is the
// drive that was named, or the one that is attached. With one it is today's; a
// drive that was named is taken at the person's word.
func (a *app) exportTarget(ctx context.Context, f exportFlags) (exportTarget, error) {
	want := f.drive
	policy, err := a.policy()
	if f.set != "" {
		if err != nil {
			return exportTarget{}, err
		}
		return namedSet(policy, f.set)
	}
	if err != nil {
		// A night is not lost for a slip of the pen.
		return exportTarget{drive: want, warning: fmt.Sprintf("which drive is today's is not known: %v; its line has to be corrected", err)}, nil
	}
	if len(policy.Scheme.Sets) == 0 {
		return exportTarget{drive: want}, nil
	}
	t := exportTarget{drive: want, standing: policy.Standing}
	cat := a.remembered(ctx)
	if cat == nil {
		// Whose turn it is follows from what is remembered.
		t.warning = "which drive is today's is not known"
		found, err := a.attachedDrives(ctx)
		if err != nil {
			return t, err
		}
		t.unremembered(policy, found)
		return t, nil
	}
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return t, err
	}
	lost, err := a.forgotten(ctx, cat, found)
	if err != nil || lost {
		t.warning = "which drive is today's is not known: this computer remembers no drive"
		return t, err
	}
	if err := a.lookAgain(ctx, cat, found); err != nil {
		return t, err
	}
	j, err := a.decide(ctx, cat)
	if err != nil {
		return t, err
	}
	if want == "" {
		t.today(j, found)
		return t, nil
	}
	t.named(j, found)
	return t, nil
}

// unremembered names the drive where nothing is remembered: the one that is here
// beside the standing store, or the only one of them that has a label of the
// rotation. Where that is not clear, opening the drive says so.
func (t *exportTarget) unremembered(policy rotation.Policy, found []rotation.Found) {
	if t.drive != "" {
		return
	}
	var here, labelled []rotation.Found
	for _, f := range found {
		if !f.Usable() || t.standing != "" && sameMedium(f.Path, t.standing) {
			continue
		}
		here = append(here, f)
		inScheme := func(s rotation.Set) bool { return slices.Contains(s.Drives, f.Drive.Label) }
		if slices.ContainsFunc(policy.Scheme.Sets, inScheme) {
			labelled = append(labelled, f)
		}
	}
	switch {
	case len(here) == 1:
		t.drive, t.driveID = here[0].Path, here[0].Drive.ID
	case len(labelled) == 1:
		t.drive, t.driveID = labelled[0].Path, labelled[0].Drive.ID
	}
}

// named is for a drive that a person named.
func (t *exportTarget) named(j judgement, found []rotation.Found) {
	f, err := rotation.Select(found, t.drive)
	if err != nil {
		return // opening it says what is wrong
	}
	if t.standing != "" && sameMedium(f.Path, t.standing) {
		t.standing = ""
		return
	}
	isToday := func(p rotation.Pick) bool { return p.DriveID == f.Drive.ID }
	if len(j.decision.Write) > 0 && !slices.ContainsFunc(j.decision.Write, isToday) {
		t.warning = fmt.Sprintf("today's drive is %s; drive %s is written because you named it", labels(j.decision.Write), f.Drive.Label)
	}
}

// today is for an export that names no drive.
func (t *exportTarget) today(j judgement, found []rotation.Found) {
	others := otherDrives(j, found)
	if set, ok := findSet(j.policy, j.decision.Set); ok && len(set.Drives) > 1 && anyAttached(j.decision.Write, found) {
		t.set = set
		return
	}
	for _, pick := range j.decision.Write {
		for _, f := range found {
			if f.Usable() && f.Drive.ID == pick.DriveID {
				t.drive, t.driveID = f.Path, pick.DriveID
				return
			}
		}
	}
	if len(others) == 1 && j.policy.ExportToWrongDrive {
		t.drive, t.driveID = others[0].Path, others[0].Drive.ID
		t.warning = fmt.Sprintf("drive %s is attached, and %s; it is exported to because site.yaml says wrongDrive: export", others[0].Drive.Label, j.expected())
		return
	}
	t.refused = notToday(j, others)
	for _, f := range others {
		if d, ok := j.drive(f.Drive.ID); ok && d.Suspect != "" {
			t.refused = notBelieved(d)
		}
	}
}

// notBelieved refuses a drive that is not what is remembered of it.
func notBelieved(d rotation.ShelfDrive) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("drive %s is attached, and is not believed: %s", d.Label, d.Suspect),
		Safe: "nothing was written to it; the points on it can still be read",
		Next: fmt.Sprintf("find out why: was it restored from a copy, or written elsewhere? Then use another drive, or take it as it is: lifeboat export --drive %s --accept-drive", shellWord(d.Label)),
		Err:  lifeboat.ErrWrongDrive,
	}
}

// namedSet is for a set that a person named.
func namedSet(policy rotation.Policy, name string) (exportTarget, error) {
	set, ok := findSet(policy, name)
	if !ok {
		var names []string
		for _, s := range policy.Scheme.Sets {
			names = append(names, s.Name)
		}
		return exportTarget{}, usagef("--set: site.yaml has no set %q; it has: %s", name, list(names))
	}
	return exportTarget{set: set, standing: policy.Standing}, nil
}

func findSet(policy rotation.Policy, name string) (rotation.Set, bool) {
	i := slices.IndexFunc(policy.Scheme.Sets, func(s rotation.Set) bool { return s.Name == name })
	if i < 0 {
		return rotation.Set{}, false
	}
	return policy.Scheme.Sets[i], true
}

func anyAttached(picks []rotation.Pick, found []rotation.Found) bool {
	return slices.ContainsFunc(found, func(f rotation.Found) bool {
		return f.Usable() && slices.ContainsFunc(picks, func(p rotation.Pick) bool { return p.DriveID == f.Drive.ID })
	})
}

// completeSets offers the sets of the rotation.
func (a *app) completeSets(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	policy, err := a.policy()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []cobra.Completion
	for _, s := range policy.Scheme.Sets {
		names = append(names, s.Name+"\t"+strings.Join(s.Drives, " "))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// otherDrives are the attached drives of this site that are not today's, and not
// the standing store.
func otherDrives(j judgement, found []rotation.Found) (all []rotation.Found) {
	for _, f := range found {
		today := slices.ContainsFunc(j.decision.Write, func(p rotation.Pick) bool { return p.DriveID == f.Drive.ID })
		known := slices.ContainsFunc(j.shelf.Drives, func(d rotation.ShelfDrive) bool { return d.ID == f.Drive.ID })
		if f.Usable() && !today && known && (j.policy.Standing == "" || !sameMedium(f.Path, j.policy.Standing)) {
			all = append(all, f)
		}
	}
	return all
}

// expected says which drive is today's.
func (j judgement) expected() string {
	if len(j.decision.Write) == 0 {
		return "no drive is to be written today"
	}
	return fmt.Sprintf("today's drive is %s", labels(j.decision.Write))
}

// labels joins the labels of drives.
func labels(picks []rotation.Pick) string {
	var all []string
	for _, p := range picks {
		all = append(all, p.Label)
	}
	return strings.Join(all, " and ")
}

// notToday says which drive is expected, where it is, and what is here instead.
func notToday(j judgement, others []rotation.Found) error {
	p := &lifeboat.Problem{What: j.expected() + ", and it is not attached", Safe: "nothing was written", Err: lifeboat.ErrNoDrive}
	var here []string
	for _, f := range others {
		here = append(here, f.Drive.Label)
	}
	if len(here) > 0 {
		p.What = fmt.Sprintf("drive %s is attached, and %s", strings.Join(here, " and "), j.expected())
		p.Safe = fmt.Sprintf("drive %s was not changed", strings.Join(here, " and "))
		p.Err = lifeboat.ErrWrongDrive
	}
	if len(j.decision.Write) == 0 {
		p.Next = "see what is due: lifeboat rotate"
		if len(j.decision.Blocked) > 0 {
			p.Next = j.decision.Blocked[0]
		}
		return p
	}
	pick := j.decision.Write[0]
	if pick.DriveID == "" {
		p.Next = fmt.Sprintf("make drive %s, which site.yaml names and nobody made yet: lifeboat drive init PATH --label %s", pick.Label, shellWord(pick.Label))
		return p
	}
	p.Next = fmt.Sprintf("attach drive %s (%s) and run the export again", pick.Label, j.whereIs(pick.DriveID))
	if len(here) == 1 {
		p.Next += fmt.Sprintf("; or, to take drive %s all the same, name it: --drive %s", here[0], shellWord(here[0]))
	}
	return p
}

// exportOnDrives exports the jobs to where they go.
func (a *app) exportOnDrives(ctx context.Context, o exportOrder, t exportTarget) ([]exportResult, error) {
	if t.warning != "" {
		a.warn("%s", t.warning)
	}
	if t.standing == "" {
		if t.refused != nil {
			return nil, t.refused
		}
		return a.exportAway(ctx, o, t)
	}
	results, err := a.exportOnto(ctx, o, t.standing, "")
	switch {
	case err != nil && (ctx.Err() != nil || t.refused != nil):
		return results, errors.Join(err, t.refused)
	case err != nil:
		p := problemOf(err)
		a.warn("the standing store %s cannot be used (%s); the export goes to the drive alone", t.standing, p.What)
		return a.exportAway(ctx, o, t)
	case t.refused != nil:
		return results, t.standingAlone(a)
	case len(t.set.Drives) > 0:
		// A machine that is in one point of the standing store may have to be in
		// parts on the drives: it is read again.
		o.known = true
		away, err := a.exportOnSet(ctx, o, t.set)
		return append(results, away...), err
	}
	err = a.fill(ctx, o, t)
	return a.exportFailed(ctx, o, t, results, err)
}

// exportFailed exports the machines that the standing store did not take to the
// drive itself: one that is full or failing keeps no night off a good drive. It
// comes after the filling, which would bring older points. err is that of the
// filling.
func (a *app) exportFailed(ctx context.Context, o exportOrder, t exportTarget, results []exportResult, err error) ([]exportResult, error) {
	failed := func(name, host string) bool {
		return slices.ContainsFunc(results, func(r exportResult) bool {
			return r.Machine == name && r.Host == host && r.err != nil && !r.stuck && !errors.Is(r.err, hypervisor.ErrMachineGone)
		})
	}
	again := o
	again.jobs, again.known = nil, true
	var names []string
	for _, j := range o.jobs {
		if failed(j.name, j.host) {
			again.jobs = append(again.jobs, j)
			names = append(names, j.name)
		}
	}
	if len(again.jobs) == 0 || ctx.Err() != nil {
		return results, err
	}
	a.warn("not exported to the standing store %s: %s; exported to the drive directly", t.standing, list(names))
	direct, directErr := a.exportOnto(ctx, again, t.drive, t.driveID)
	if directErr != nil {
		return results, errors.Join(err, directErr)
	}
	results = slices.DeleteFunc(results, func(r exportResult) bool {
		return slices.ContainsFunc(direct, func(d exportResult) bool { return d.Machine == r.Machine && d.Host == r.Host })
	})
	return append(results, direct...), err
}

// exportAway exports to what leaves the house: a drive, or the drives of a set.
func (a *app) exportAway(ctx context.Context, o exportOrder, t exportTarget) ([]exportResult, error) {
	if len(t.set.Drives) > 0 {
		return a.exportOnSet(ctx, o, t.set)
	}
	return a.exportOnto(ctx, o, t.drive, t.driveID)
}

// standingAlone says that no drive has tonight's points. That is as planned where
// none is attached, and an error where a wrong one is.
func (t exportTarget) standingAlone(a *app) error {
	p := problemOf(t.refused)
	if errors.Is(t.refused, lifeboat.ErrWrongDrive) {
		p.Safe = "the points of this run are in the standing store; " + p.Safe
		return &p
	}
	a.warn("%s: the points of this run are in the standing store alone, which does not count as offsite; %s", p.What, p.Next)
	return nil
}
