package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
)

// Documents that people attach are to be on every drive. This computer keeps each
// sealed to its identity, so that a drive that is away gets it when it returns.

func (a *app) documentsDir() string { return filepath.Join(a.secretsDir(), "documents") }

// keepDocument seals a document into the state folder and says what it is. It is
// read once, in bounded memory.
func (a *app) keepDocument(id *imagestore.Identity, r io.Reader) (string, int64, error) {
	if err := os.MkdirAll(a.documentsDir(), 0o700); err != nil {
		return "", 0, err
	}
	dir, err := durable.OpenPrivate(a.documentsDir())
	if err != nil {
		return "", 0, err
	}
	defer closeDir(dir)
	sum, size := imagestore.NewEnclosureHash(), int64(0)
	sealed, in := io.Pipe()
	go func() {
		in.CloseWithError(func() error {
			w, err := id.SealTo(in)
			if err != nil {
				return err
			}
			size, err = io.Copy(io.MultiWriter(w, sum), io.LimitReader(r, imagestore.EnclosureLimit+1))
			if err == nil && size > imagestore.EnclosureLimit {
				err = imagestore.ErrEnclosureTooLong
			}
			return errors.Join(err, w.Close())
		}())
	}()
	name := imagestore.NewID()
	if _, err := durable.WriteFrom(dir, name, sealed); err != nil {
		sealed.CloseWithError(err)
		return "", 0, err
	}
	hash := hex.EncodeToString(sum.Sum(nil))
	if err := dir.Rename(name, hash); err != nil {
		return "", 0, errors.Join(err, dir.Remove(name))
	}
	// The pipe's end came after the last byte was counted.
	return hash, size, dir.SyncDir(".")
}

// keptDocument opens a document of the state folder.
func (a *app) keptDocument(hash string) (io.Reader, io.Closer, error) {
	id, err := a.identity()
	if err != nil {
		return nil, nil, err
	}
	if id == nil {
		return nil, nil, fs.ErrNotExist
	}
	f, err := os.Open(filepath.Join(a.documentsDir(), filepath.Base(hash)))
	if err != nil {
		return nil, nil, err
	}
	plain, err := id.UnsealFrom(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return plain, f, nil
}

// documentsOn are the documents that people attached to a drive, by their names.
func documentsOn(ctx context.Context, d *openedDrive) (map[string]imagestore.Enclosure, []imagestore.Fault, error) {
	all, faults, err := d.store.Enclosures(ctx)
	found := map[string]imagestore.Enclosure{}
	for _, e := range all {
		if name, ok := strings.CutPrefix(e.Name, documentEnclosure); ok {
			found[name] = e
		}
	}
	return found, faults, err
}

// leaveDocuments makes a drive carry the site's documents. One that only another
// computer knows stays on it.
func (a *app) leaveDocuments(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	wanted, err := cat.Documents(ctx)
	if err != nil {
		return err
	}
	there, _, err := documentsOn(ctx, d)
	if err != nil {
		return err
	}
	var errs []error
	for _, doc := range wanted {
		e, has := there[doc.Name]
		switch {
		case !doc.RemovedAt.IsZero() && has && !e.WrittenAt.After(doc.RemovedAt):
			err = d.store.RemoveEnclosure(ctx, documentEnclosure+doc.Name)
		case doc.RemovedAt.IsZero() && (!has || e.Hash != doc.Hash || e.Note != doc.Note):
			err = a.leaveDocument(ctx, d, doc)
		case doc.RemovedAt.IsZero():
			err = a.keepFrom(ctx, d, doc)
		}
		errs = append(errs, err)
	}
	if there, _, err = documentsOn(ctx, d); err != nil {
		return errors.Join(append(errs, err)...)
	}
	hashes := map[string]string{}
	for name, e := range there {
		hashes[name] = e.Hash
	}
	return errors.Join(append(errs, cat.SetDriveDocuments(ctx, d.store.Drive().ID, hashes))...)
}

// leaveDocument writes one document onto a drive.
func (a *app) leaveDocument(ctx context.Context, d *openedDrive, doc catalog.Document) error {
	plain, file, err := a.keptDocument(doc.Hash)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the document %q is not kept on this computer: attach a drive that has it, or attach the document again", doc.Name)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = d.store.Enclose(ctx, documentEnclosure+doc.Name, doc.Note, plain)
	return err
}

// keepFrom takes a document from a drive that this computer lost, so that the
// other drives can get it.
func (a *app) keepFrom(ctx context.Context, d *openedDrive, doc catalog.Document) error {
	if _, err := os.Stat(filepath.Join(a.documentsDir(), filepath.Base(doc.Hash))); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	id, err := a.identity()
	if err != nil || id == nil {
		return err
	}
	from, to := io.Pipe()
	go func() {
		_, err := d.store.ReadEnclosure(ctx, documentEnclosure+doc.Name, to)
		to.CloseWithError(err)
	}()
	_, _, err = a.keepDocument(id, from)
	from.CloseWithError(err)
	return err
}

// dropDocument removes what this computer keeps of a document that no other name
// stands for.
func (a *app) dropDocument(ctx context.Context, cat *catalog.Catalog, hash string) error {
	all, err := cat.Documents(ctx)
	if err != nil {
		return err
	}
	for _, doc := range all {
		if doc.Hash == hash && doc.RemovedAt.IsZero() {
			return nil
		}
	}
	err = os.Remove(filepath.Join(a.documentsDir(), filepath.Base(hash)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// noDocument says which documents there are instead.
func noDocument(where, name string, known []string) error {
	next := "see what there is: lifeboat drive documents"
	if len(known) > 0 {
		next = "there are: " + list(known)
	}
	return &lifeboat.Problem{What: fmt.Sprintf("%s has no document %q", where, name), Safe: "nothing was changed", Next: next}
}
