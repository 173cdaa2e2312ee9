package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
)

// refuseOrder is why a change is not made anywhere.
func refuseOrder(what, next string) error {
	return &lifeboat.Problem{What: what, Safe: "nothing was changed: what opened the drives before opens them now", Next: next}
}

// addEverywhere lets a secret into every drive of the site.
func (a *app) addEverywhere(ctx context.Context, k newKey) error {
	o := keyOrder{change: catalog.KeyChange{Kind: catalog.KeyAdd, Slot: k.name}, dryRun: k.dryRun, check: checkAdd}
	if k.recipient != "" {
		to, err := imagestore.ParseRecipient(k.recipient)
		if err != nil {
			return usagef("--recipient: %v", err)
		}
		o.change.Recipients = []string{to.String()}
	}
	if !k.dryRun {
		_, text, shown, err := a.newSlot(ctx, k)
		if err != nil {
			return err
		}
		o.secret.New, o.shown = text, shown
	}
	return a.order(ctx, o)
}

// checkAdd refuses a name that a drive has, or is to have.
func checkAdd(o *keyOrder, drives []driveKeys) error {
	if err := checkSlotName(o.change.Slot); err != nil {
		return err
	}
	for _, d := range drives {
		if s, there := d.slot(o.change.Slot); there && (s.Recipient == "" || !slices.Contains(o.change.Recipients, s.Recipient)) {
			return refuseOrder(fmt.Sprintf("drive %s has a key slot named %q already, or gets one when it returns", d.Label, s.Name),
				"choose another name; to give that slot another passphrase: lifeboat key replace "+shellWord(s.Name))
		}
	}
	return nil
}

// slotNameLimit is as much as fits a line of a list.
const slotNameLimit = 64

func checkSlotName(name string) error {
	switch {
	case name == "" || plainText(name) != name || oneLine(name) != name:
		return usagef("%q is no name for a key slot: it has to be one line of plain text, without blanks around it", name)
	case len(name) > slotNameLimit:
		return usagef("a key slot's name has at most %d bytes", slotNameLimit)
	}
	return nil
}

// removeEverywhere shuts a secret out of every drive of the site.
func (a *app) removeEverywhere(ctx context.Context, name string, yes, dryRun bool) error {
	site, err := a.loadSite()
	if err != nil {
		return err
	}
	ours, err := a.identity()
	if err != nil {
		return err
	}
	own := ""
	if ours != nil {
		own = ours.String()
	}
	err = a.order(ctx, keyOrder{
		change: catalog.KeyChange{Kind: catalog.KeyRemove, Slot: name}, yes: yes, dryRun: dryRun,
		check: func(o *keyOrder, drives []driveKeys) error { return checkRemove(o, drives, own, site.Site.Name) },
	})
	if err == nil && !dryRun {
		a.note("copies of a drive that were taken before it still opens; against those: new drives under a new secret")
		a.sayWhatElse(ctx, name)
	}
	return err
}

// checkRemove refuses to remove what no drive has, and the last passphrase of any.
// own is this computer's public key: where others have a slot of the same name, on
// drives that another computer made, theirs is meant; its own goes only after site
// was typed.
func checkRemove(o *keyOrder, drives []driveKeys, own, site string) error {
	name := o.change.Slot
	var recipients []string
	seen, ownSeen := false, false
	for _, d := range drives {
		s, there := d.slot(name)
		if !there {
			continue
		}
		switch {
		case s.Kind == "passphrase":
			seen = true
			left := slices.DeleteFunc(d.coming(), func(s catalog.KeySlot) bool { return s.Kind != "passphrase" || s.Name == name })
			if len(left) == 0 {
				return refuseOrder(fmt.Sprintf("%q is the last passphrase of drive %s: without it only computers and public keys open it", name, d.Label),
					"give it a new secret: lifeboat key replace "+shellWord(name)+"; or add another first: lifeboat key add NAME --generate")
			}
		case own != "" && s.Recipient == own:
			ownSeen = true
		default:
			seen = true
			if !slices.Contains(recipients, s.Recipient) {
				recipients = append(recipients, s.Recipient)
			}
		}
	}
	switch {
	case !seen && !ownSeen:
		return refuseOrder(fmt.Sprintf("no drive has a key slot named %q", name), "see who opens which drive: lifeboat key list")
	case !seen:
		recipients = []string{own}
		o.typed = site
		o.plan = fmt.Sprintf("%q is this computer. Without it night jobs need a typed secret, and nothing can be changed on absent drives.\n", name)
	default:
		o.plan = fmt.Sprintf("This closes every drive of the site to %q: those that are attached now, the others when they return.\n", name)
	}
	o.change.Recipients = recipients
	return nil
}

// sayWhatElse reminds of what a person who leaves may still have.
func (a *app) sayWhatElse(ctx context.Context, name string) {
	_ = a.withMemory(ctx, func(cat *catalog.Catalog) error {
		entries, err := cat.Ledger(ctx)
		if err != nil {
			return err
		}
		list := custody.Replay(entries)
		for _, k := range list.Items {
			if k.Place.Holder == name && k.Place.State != custody.Retired {
				a.warn("by the ledger %s holds the %s %s: have it handed over", name, k.Kind, k.Label)
			}
		}
		return nil
	})
	a.note("if a person leaves, see also which passphrases, printed sheets and drives the person had: docs/how-to/when-somebody-leaves.md")
}

func (a *app) keyReplaceCommand() *cobra.Command {
	var k newKey
	var yes bool
	c := &cobra.Command{
		Use: "replace [NAME]", Short: "Give the site, or a key slot, another passphrase",
		Long: "Puts a new passphrase in the place of an old one, on every drive of the site: at once where the\n" +
			"drive is attached, and when it returns where it is away. Until then a drive that is away opens\n" +
			"with the old one: keep its sheet. Without NAME it is the site's secret, which new drives get as\n" +
			"well; a drive with a secret of its own keeps that. The old passphrase need not be known.",
		Example:     "  lifeboat key replace --generate\n  lifeboat key replace board --new-passphrase-file new.txt",
		Annotations: exits(exitPartial, exitNoDrive, exitPerson, exitStopped), Args: oneArgAtMost("the name of a slot"),
		ValidArgsFunction: a.completeSlots,
		RunE: func(c *cobra.Command, args []string) error {
			k.name = passphraseSlot
			if len(args) == 1 {
				k.name = args[0]
			}
			if k.file != "" && k.generate {
				return usagef("give one of --new-passphrase-file and --generate")
			}
			if _, err := a.loadSite(); err != nil {
				return err
			}
			return a.replaceEverywhere(c.Context(), k, yes)
		},
	}
	c.Flags().StringVar(&k.file, "new-passphrase-file", "", "read the new passphrase from this file")
	c.Flags().BoolVar(&k.generate, "generate", false, "make a passphrase up and show it once")
	c.Flags().BoolVar(&k.dryRun, "dry-run", false, "say on which drives it would be replaced")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (a *app) replaceEverywhere(ctx context.Context, k newKey, yes bool) error {
	o := keyOrder{change: catalog.KeyChange{Kind: catalog.KeyReplace, Slot: k.name}, yes: yes, dryRun: k.dryRun, check: checkReplace,
		plan: fmt.Sprintf("This puts a new passphrase in the place of %q on every drive: those that are attached now, the others when they return.\n", k.name)}
	if !k.dryRun {
		_, text, shown, err := a.newSlot(ctx, k)
		if err != nil {
			return err
		}
		o.secret.New, o.shown = text, shown
	}
	if k.name == passphraseSlot {
		_, site, err := a.loadSiteSecrets()
		if err != nil {
			return err
		}
		o.secret.Old = lineOf(site.Passphrase)
	}
	err := a.order(ctx, o)
	if err == nil && !k.dryRun {
		a.note("print new recovery sheets now: lifeboat key sheet --drive LABEL; keep the old sheet of a drive that is away until it has returned")
	}
	return err
}

func checkReplace(o *keyOrder, drives []driveKeys) error {
	there := false
	for _, d := range drives {
		s, has := d.slot(o.change.Slot)
		if has && s.Kind != "passphrase" {
			return refuseOrder(fmt.Sprintf("the key slot %q of drive %s is a public key, not a passphrase", s.Name, d.Label),
				"remove it and add another: lifeboat key remove "+shellWord(s.Name))
		}
		there = there || has
	}
	if !there && o.change.Slot != passphraseSlot {
		return refuseOrder(fmt.Sprintf("no drive has a key slot named %q", o.change.Slot), "add it: lifeboat key add "+shellWord(o.change.Slot)+"; or see who opens which drive: lifeboat key list")
	}
	return nil
}

// rotateEverywhere gives every drive of the site a new master key, without those
// who are dropped.
func (a *app) rotateEverywhere(ctx context.Context, r keyRotation) error {
	for _, name := range r.drop {
		if err := a.removeEverywhere(ctx, name, r.yes, r.dryRun); err != nil {
			return err
		}
	}
	return a.order(ctx, keyOrder{
		change: catalog.KeyChange{Kind: catalog.KeyRotate}, yes: r.yes, dryRun: r.dryRun,
		plan:  "This gives every drive of the site a new master key: those that are attached now, the others when they return. What is stored stays sealed with the older keys. None of this helps against copies already taken.\n",
		check: func(*keyOrder, []driveKeys) error { return nil },
	})
}
