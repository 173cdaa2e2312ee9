package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"lifeboat/catalog"
)

// memory is the catalogue for what can be done without it: a catalogue that is
// damaged or cannot be written never stops an export. It is opened when it is
// first needed and closed with the command.
type memory struct {
	once sync.Once
	cat  *catalog.Catalog
}

// remembered returns the catalogue, or nil where it cannot be used, which is
// said once.
func (a *app) remembered(ctx context.Context) *catalog.Catalog {
	a.memory.once.Do(func() {
		cat, err := a.openCatalog(context.WithoutCancel(ctx))
		if err != nil {
			p := problemOf(err)
			a.warn("%s; this command goes on without what it remembers (%s)", p.What, p.Next)
			return
		}
		a.memory.cat = cat
	})
	return a.memory.cat
}

// hasMemory says that there is a catalogue already: what only looks makes none.
func (a *app) hasMemory() bool {
	_, err := os.Stat(filepath.Join(a.stateDir, "catalog.db"))
	return err == nil
}

func (a *app) closeMemory() {
	a.memory.once.Do(func() {})
	if a.memory.cat != nil {
		a.memory.cat.Close()
	}
}

// hostNotes is what one host has to remember of its machines, in the catalogue.
// Where that cannot be used nothing is known, and everything is read.
type hostNotes struct {
	a    *app
	host string
}

// Note returns what was kept under a name for a machine, or nil.
func (n hostNotes) Note(ctx context.Context, hostID, name string) ([]byte, error) {
	if !n.a.hasMemory() {
		return nil, nil
	}
	cat := n.a.remembered(ctx)
	if cat == nil {
		return nil, nil
	}
	data, err := cat.Note(ctx, n.host, hostID, name)
	if err != nil && ctx.Err() == nil {
		n.a.warn("%v; everything of this machine is read", err)
		return nil, nil
	}
	return data, err
}

// SetNote keeps data in place of what was there; nil forgets it.
func (n hostNotes) SetNote(ctx context.Context, hostID, name string, data []byte) error {
	cat := n.a.remembered(ctx)
	if cat == nil {
		return nil
	}
	err := cat.SetNote(ctx, n.host, hostID, name, data)
	if err != nil && ctx.Err() == nil {
		n.a.warn("%v; the next export of this machine may read everything", err)
		return nil
	}
	return err
}

// linkedID returns the id that a person gave a host's machine with `machine
// link`, or its own.
func (a *app) linkedID(ctx context.Context, host, hostID, own string) string {
	if !a.hasMemory() {
		return own
	}
	cat := a.remembered(ctx)
	if cat == nil {
		return own
	}
	id, err := cat.KnownMachine(ctx, host, hostID)
	switch {
	case err == nil:
		return id
	case !errors.Is(err, catalog.ErrUnknown) && ctx.Err() == nil:
		a.warn("%v; if it was linked to a history, that is not known now", err)
	}
	return own
}
