// Package catalog is what the control machine remembers: the drives it has
// seen, the restore points on them, its runs, and which of its hosts' machines
// is which of Lifeboat's.
//
// It is one SQLite file that several processes may use at once. It promises
// that what it was told is still there after a power cut, and that a drive
// which went back in time or changed its key is refused, not learnt. No truth
// lives here that a drive does not also hold: what is lost is rebuilt from the
// drives. It never opens a drive itself.
package catalog

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"lifeboat"
	"lifeboat/internal/durable"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrUnknown: the catalogue has no such drive, run or machine.
var ErrUnknown = errors.New("the catalogue does not know it")

const (
	// busySeconds is how long one process waits for another's write. Writes
	// take milliseconds; only a stopped process holds one longer.
	busySeconds = 15
	openPoll    = 10 * time.Millisecond
)

// Catalog is the opened file. Its methods may be called from several
// goroutines.
type Catalog struct {
	db *sql.DB
}

// Open opens the catalogue at path, makes it when it is not there, and brings
// an older one up to date. Only its owner can read the file. One that a newer
// program wrote, or that is damaged, is a [lifeboat.Problem].
func Open(ctx context.Context, path string) (*Catalog, error) {
	// The first opening changes the file's mode of journalling, which SQLite
	// does not wait for. So one process at a time opens.
	unlock, err := openAlone(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open the catalogue %s: %w", path, err)
	}
	defer unlock()
	db, err := sql.Open("sqlite", source(path))
	if err != nil {
		return nil, fmt.Errorf("open the catalogue %s: %w", path, err)
	}
	// One connection: then this process never waits for itself.
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db, path); err != nil {
		db.Close()
		return nil, explain(path, err)
	}
	return &Catalog{db: db}, nil
}

// Close lets go of the file.
func (c *Catalog) Close() error { return c.db.Close() }

func source(path string) string {
	options := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busySeconds*1000),
		"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
	}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: options.Encode()}).String()
}

// openAlone makes the file, private from its first moment on, and waits until
// no other process is opening it.
func openAlone(ctx context.Context, path string) (unlock func(), err error) {
	dir, err := durable.OpenPrivate(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	closeDir := dir.(*durable.OSDir).Close
	name := filepath.Base(path)
	f, err := dir.Create(name)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, errors.Join(err, closeDir())
	}
	ctx, cancel := context.WithTimeout(ctx, busySeconds*time.Second)
	defer cancel()
	tick := time.NewTicker(openPoll)
	defer tick.Stop()
	for {
		lock, err := dir.Lock(name+".lock", true)
		if err == nil {
			return func() { lock.Close(); closeDir() }, nil
		}
		if !errors.Is(err, durable.ErrLocked) {
			return nil, errors.Join(err, closeDir())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err(), closeDir())
		}
	}
}

func migrate(ctx context.Context, db *sql.DB, path string) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return err
	}
	have, known, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if have > known {
		return &lifeboat.Problem{
			What: fmt.Sprintf("the catalogue %s was written by a newer version of this program", path),
			Safe: "nothing was changed; the drives are not concerned",
			Next: "use that version, or an empty --state folder",
		}
	}
	_, err = provider.Up(ctx)
	return err
}

// explain says what to do about a damaged file; everything in it can be had
// again from the drives.
func explain(path string, err error) error {
	var broken *sqlite.Error
	if errors.As(err, &broken) && (broken.Code()&0xff == sqlite3.SQLITE_CORRUPT || broken.Code()&0xff == sqlite3.SQLITE_NOTADB) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("the catalogue %s is damaged", path),
			Safe: "the drives and their restore points are not concerned; the catalogue is only a memory of them",
			Next: "make it again from the drives, as many as are at hand: lifeboat catalog rebuild",
			Err:  fmt.Errorf("%w: %w", lifeboat.ErrDamaged, err),
		}
	}
	return fmt.Errorf("open the catalogue %s: %w", path, err)
}

// write runs f in one transaction that starts with the right to write.
func (c *Catalog) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// timeFormat keeps all digits, so that times sort as text.
const timeFormat = "2006-01-02T15:04:05.000000000Z"

// moment is a time as it is read from a column; NULL is the zero time.
type moment struct{ time.Time }

// text is a time as a column that is never NULL.
func text(t time.Time) string { return t.UTC().Format(timeFormat) }

// Scan reads what text gave.
func (m *moment) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		m.Time = time.Time{}
		return nil
	case string:
		t, err := time.Parse(time.RFC3339Nano, v)
		m.Time = t.UTC()
		return err
	}
	return fmt.Errorf("a time of type %T", value)
}

// collect reads all rows, and closes them, so that the one connection is free.
func collect[T any](rows *sql.Rows, err error, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
