package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
)

// keyRotation is a rotation of a drive's key, as it was asked for.
type keyRotation struct {
	drop        []string
	secretOf    []string
	yes, dryRun bool
	// allData seals anew what is there; resume goes on with that under the key
	// that an earlier try made.
	allData, resume bool
	// onlyCopy: the drive may hold the only good copy of a machine.
	onlyCopy   bool
	everywhere bool
}

func (a *app) keyRotateCommand() *cobra.Command {
	var drive string
	var r keyRotation
	c := &cobra.Command{
		Use: "rotate", Short: "Give a drive a new master key",
		Long: "Seals everything that is written from now on with a new key, and makes every key slot anew.\n" +
			"Recipients are taken over by themselves. A passphrase is needed once more: the site's is known\n" +
			"here, others are asked for by name or read with --secret-of NAME=FILE; --drop NAME leaves a\n" +
			"slot behind. What was stored before stays sealed with the older key; --all-data reads it, seals\n" +
			"it anew and drops the older key, which takes as long as copying the drive twice. Nobody else\n" +
			"may use the drive meanwhile. It can be stopped, and goes on with --resume.\n" +
			"With --everywhere every drive of the site gets a new key, without --all-data: at once where it\n" +
			"is attached, and when it returns where it is away.\n" +
			"Nothing of this helps against copies that were taken already.",
		Example:     "  lifeboat key rotate --drive A --drop anna\n  lifeboat key rotate --drive A --all-data --dry-run",
		Annotations: exits(exitPartial, exitNoDrive, exitHeld, exitDamage, exitPerson, exitStopped), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if r.resume && !r.allData {
				return usagef("--resume goes with --all-data")
			}
			if r.everywhere {
				if _, err := a.everyDrive(drive, true); err != nil {
					return err
				}
				if r.allData || len(r.secretOf) > 0 {
					return usagef("--everywhere goes without --all-data and --secret-of: those are for one drive")
				}
				return a.rotateEverywhere(c.Context(), r)
			}
			return a.keyRotate(c.Context(), drive, r)
		},
	}
	c.Flags().StringArrayVar(&r.drop, "drop", nil, "a slot that is not taken over; may be given several times")
	c.Flags().StringArrayVar(&r.secretOf, "secret-of", nil, "NAME=FILE: the file with the passphrase of a slot; may be given several times")
	c.Flags().BoolVar(&r.allData, "all-data", false, "also seal anew what is on the drive, and drop the older key")
	c.Flags().BoolVar(&r.onlyCopy, "only-copy", false, "with --all-data: also on a drive that holds the only good copy of a machine, which is written anew then")
	c.Flags().BoolVar(&r.resume, "resume", false, "go on with --all-data that was stopped, under the key that it made")
	c.Flags().BoolVar(&r.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&r.dryRun, "dry-run", false, "say what would be done")
	c.RegisterFlagCompletionFunc("drop", a.completeSlots)
	a.driveFlag(c, &drive)
	everywhereFlag(c, &r.everywhere)
	return c
}

func (a *app) keyRotate(ctx context.Context, drive string, r keyRotation) error {
	files, err := secretFiles(r.secretOf)
	if err != nil {
		return err
	}
	open, mode := a.changeKeys, imagestore.Alone
	if r.dryRun {
		open, mode = a.openDrive, imagestore.Read
	}
	d, err := open(ctx, drive, mode)
	if err != nil {
		return err
	}
	defer d.Close()
	left, err := slotsWithout(ctx, d, r.drop...)
	if err != nil {
		return err
	}
	plan, err := a.planRotation(ctx, d, r, left)
	if err != nil {
		return err
	}
	if r.dryRun {
		a.showRotation(plan)
		return nil
	}
	if err := a.mayReseal(ctx, d, r); err != nil {
		return err
	}
	secrets, err := a.secretsOf(ctx, d, passphraseSlots(left), files)
	if err != nil {
		return err
	}
	if err := a.confirmShutOut(ctx, r.yes, d, left, plan.String()); err != nil {
		return err
	}
	if err := a.rotateKey(ctx, d, r, imagestore.RotateOptions{Secrets: secrets, Drop: r.drop}); err != nil {
		return err
	}
	plan.Generations = d.store.Generations()
	if a.json && r.allData {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Result: plan})
		return nil
	}
	if a.json {
		a.printJSON(plan)
		return nil
	}
	a.print("%s has a new key, number %d; it opens for %s\n", d.name(), plan.Generations[len(plan.Generations)-1], list(plan.Left))
	return a.warnOfStraySlots(ctx, d)
}

// rotateKey makes the new key and, if asked to, seals with it what is there.
func (a *app) rotateKey(ctx context.Context, d *openedDrive, r keyRotation, o imagestore.RotateOptions) error {
	if !r.resume {
		if err := d.store.Rotate(ctx, o); err != nil {
			return slotProblem(d, err)
		}
		// This computer follows its own rotation; others follow by the drive's proof.
		if err := a.changedKeys(ctx, d, "rotated", ""); err != nil {
			return err
		}
		o.Drop = nil
	}
	if !r.allData {
		return nil
	}
	work, err := a.beginRun("key rotate", os.Args[1:])
	if err != nil {
		return err
	}
	p := a.newProgress(work, "key rotate")
	err = resealProblem(d, r.secretOf, d.store.Reseal(ctx, o, func(pr imagestore.Progress) { p.show(pr.DoneBytes, pr.TotalBytes) }))
	p.end()
	work.end("drive "+d.found.Drive.Label+": sealed with its new key", err)
	return err
}

// resealProblem says how it goes on where sealing anew was stopped. The files with
// secrets that were named are needed again: the key slots are made anew at the end.
func resealProblem(d *openedDrive, secretOf []string, err error) error {
	var known *lifeboat.Problem
	if err == nil || errors.As(err, &known) {
		return err
	}
	what := fmt.Sprintf("%s has its new key, but not everything is sealed with it yet", d.name())
	if !errors.Is(err, context.Canceled) {
		what += fmt.Sprintf(": %v", err)
	}
	next := "go on with: lifeboat key rotate --all-data --resume --drive " + shellWord(d.found.Drive.Label)
	for _, s := range secretOf {
		next += " --secret-of " + shellWord(s)
	}
	return &lifeboat.Problem{
		What: what,
		Safe: "every restore point can be read as before, by everybody who opens the drive now",
		Next: next,
		Err:  err,
	}
}

// rotationPlan is what a rotation would do, or did.
type rotationPlan struct {
	Drive       string                 `json:"driveId"`
	Generations []uint32               `json:"generations"`
	Left        []string               `json:"left"`
	Dropped     []string               `json:"dropped"`
	Reseal      *imagestore.ResealPlan `json:"reseal,omitempty"`
	// Seconds is how long sealing anew takes, as fast as the drive was measured;
	// 0 where it never was.
	Seconds float64 `json:"seconds,omitempty"`

	name   string
	resume bool
}

func (a *app) planRotation(ctx context.Context, d *openedDrive, r keyRotation, left []imagestore.Slot) (rotationPlan, error) {
	plan := rotationPlan{Drive: d.store.Drive().ID, Generations: d.store.Generations(), Left: slotNames(left), Dropped: append([]string{}, r.drop...), name: d.name(), resume: r.resume}
	if !r.allData {
		return plan, nil
	}
	reseal, err := d.store.PlanReseal(ctx, !r.resume)
	if err != nil {
		return plan, err
	}
	if r.resume && len(plan.Generations) == 1 && reseal == (imagestore.ResealPlan{}) {
		return plan, slotProblem(d, errors.New("there is nothing to resume: everything is sealed with the drive's only key"))
	}
	plan.Reseal = &reseal
	if !a.hasState() {
		return plan, nil
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return plan, err
	}
	defer cat.Close()
	if known, err := cat.Drive(ctx, plan.Drive); err == nil && known.WriteBytesPerSecond > 0 {
		// Every byte is read, written, and read back.
		plan.Seconds = 3 * float64(reseal.Bytes) / float64(known.WriteBytesPerSecond)
	}
	return plan, nil
}

// String is the plan for a person.
func (r rotationPlan) String() string {
	var text strings.Builder
	begins := fmt.Sprintf("This gives %s a new key", r.name)
	if r.resume {
		begins = fmt.Sprintf("This goes on with sealing %s with key number %d", r.name, r.Generations[len(r.Generations)-1])
	}
	fmt.Fprintf(&text, "%s. It then opens for %s.\n", begins, list(r.Left))
	if len(r.Dropped) > 0 {
		fmt.Fprintf(&text, "Shut out: %s.\n", list(r.Dropped))
	}
	switch {
	case r.Reseal == nil:
		text.WriteString("What was stored before stays sealed with the older key.")
	default:
		fmt.Fprintf(&text, "%s of the drive are sealed anew", humanBytes(r.Reseal.Bytes))
		if r.Seconds > 0 {
			fmt.Fprintf(&text, ", in about %s", humanSeconds(max(1, r.Seconds)))
		}
		text.WriteString("; then the older key is dropped.")
	}
	text.WriteString(" None of this helps against copies already taken.\n")
	return text.String()
}

// showRotation says what would be done.
func (a *app) showRotation(plan rotationPlan) {
	if a.json {
		a.printJSON(plan)
		return
	}
	a.print("%s", plan)
}

// secretFiles reads the files of --secret-of.
func secretFiles(given []string) (map[string]string, error) {
	texts := map[string]string{}
	for _, g := range given {
		name, file, ok := strings.Cut(g, "=")
		if !ok || name == "" || file == "" {
			return nil, usagef("--secret-of takes NAME=FILE, and got %q", g)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, usagef("--secret-of %s: %v", name, err)
		}
		texts[name] = string(data)
	}
	return texts, nil
}

// secretsOf finds the passphrase of each slot: in its file, among the secrets
// that are known here, or by asking.
func (a *app) secretsOf(ctx context.Context, d *openedDrive, names []string, files map[string]string) (map[string]imagestore.Secret, error) {
	for name := range files {
		if !slices.Contains(names, name) {
			return nil, slotProblem(d, fmt.Errorf("no passphrase slot that stays is named %q", name))
		}
	}
	known := []string{d.keys.Passphrase}
	if a.hasSiteSecrets() {
		_, secrets, err := a.loadSiteSecrets()
		if err != nil {
			return nil, err
		}
		known = append(known, secrets.Passphrase)
	}
	found := map[string]imagestore.Secret{}
	for _, name := range names {
		tries := known
		text, given := files[name]
		if given {
			tries = []string{text}
		}
		secret, err := firstThatOpens(ctx, d, name, tries)
		if errors.Is(err, lifeboat.ErrWrongSecret) && !given {
			secret, err = a.askSecretOf(ctx, d, name)
		}
		if err != nil {
			return nil, slotProblem(d, err)
		}
		found[name] = secret
	}
	return found, nil
}

// firstThatOpens returns the first of the texts that opens a slot, or an error
// that wraps lifeboat.ErrWrongSecret.
func firstThatOpens(ctx context.Context, d *openedDrive, slot string, texts []string) (imagestore.Secret, error) {
	for _, text := range texts {
		secret, err := imagestore.Passphrase(text)
		if err != nil {
			continue // there is none
		}
		if err = d.store.CheckSecret(ctx, slot, secret); !errors.Is(err, lifeboat.ErrWrongSecret) {
			return secret, err
		}
	}
	return imagestore.Secret{}, fmt.Errorf("%w: key slot %q does not open with the secret that was given for it", lifeboat.ErrWrongSecret, slot)
}

// secretTries is how often a person may mistype a secret.
const secretTries = 3

func (a *app) askSecretOf(ctx context.Context, d *openedDrive, slot string) (imagestore.Secret, error) {
	if a.passphraseFile != "" || !isTerminal(a.stdin) {
		return imagestore.Secret{}, &lifeboat.Problem{
			What: fmt.Sprintf("%s: the passphrase of key slot %q is needed, and nobody is here to type it", d.name(), slot),
			Safe: "nothing was changed: what opened the drive before opens it now",
			Next: fmt.Sprintf("give it in a file: --secret-of %s=FILE; or leave that slot behind: --drop %s", shellWord(slot), shellWord(slot)),
			Err:  errNeedsPerson,
		}
	}
	for try := 1; ; try++ {
		text, err := a.typeSecret(ctx, fmt.Sprintf("Secret of key slot %q of %s", slot, d.name()))
		if err != nil {
			return imagestore.Secret{}, err
		}
		secret, err := firstThatOpens(ctx, d, slot, []string{text})
		if !errors.Is(err, lifeboat.ErrWrongSecret) || try == secretTries {
			return secret, err
		}
		a.ask("It does not open that slot.\n")
	}
}

// mayReseal refuses to write anew what a machine's newest good copy needs, while
// no other drive holds one: what was read back of it would have to be read again,
// and until then nothing else is known to be good. A person may want it all the
// same. What was begun goes on.
func (a *app) mayReseal(ctx context.Context, d *openedDrive, r keyRotation) error {
	if !r.allData || r.resume || r.onlyCopy {
		return nil
	}
	ids, err := a.untouched(ctx, d)
	if err != nil || len(ids) == 0 {
		return err
	}
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	var machines []string
	for _, p := range points {
		if slices.Contains(ids, p.ID) && !slices.Contains(machines, p.Machine.Name) {
			machines = append(machines, p.Machine.Name)
		}
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s holds the newest good copy of %s, no other drive does, and sealing everything anew writes it anew", d.name(), list(machines)),
		Safe: "nothing was changed: what opened the drive before opens it now",
		Next: "copy it to another drive and verify that one first (lifeboat copy, lifeboat verify); or, if that is meant, add: --only-copy",
		Err:  errNeedsPerson,
	}
}
