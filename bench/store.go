package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"lifeboat"
	"lifeboat/diskfile"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
	"lifeboat/nbd"
)

// What the program does only together with a hypervisor is measured on the
// store itself, in processes of their own: an export with a list of what
// changed, and the disks as machines read them, through NBD.

// measureStore measures the works that need a change list or an NBD client.
func measureStore(ctx context.Context, s *session) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	store := filepath.Join(s.dir, "store")
	if err := createStore(ctx, store); err != nil {
		return err
	}
	list, err := json.Marshal(s.dirty)
	if err != nil {
		return err
	}
	changes := filepath.Join(s.dir, "changes.json")
	if err := os.WriteFile(changes, list, 0o644); err != nil {
		return err
	}
	if err := s.use(1); err != nil {
		return err
	}
	first, err := s.quiet(ctx, self, "capture-disks", "-store", store, "-disks", s.src)
	if err != nil {
		return err
	}
	if err := s.use(2); err != nil {
		return err
	}
	before, err := stored(store)
	if err != nil {
		return err
	}
	m, out, err := runMeasured(ctx, s.dir, s.env, self, "capture-disks", "-store", store, "-disks", s.src, "-changes", changes)
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", workNextList, err, out)
	}
	after, err := stored(store)
	if err != nil {
		return err
	}
	m.StoredMiB, m.ParityMiB = mib(after.data-before.data), mib(after.parity-before.parity)
	s.say("%s: %s: %.1f s, %.1f CPU s", s.label, workNextList, m.WallS, m.CPUS)
	s.report.add(workNextList, s.tool, m)
	var second captured
	if err := json.Unmarshal(out, &second); err != nil {
		return err
	}
	s.report.note("reads_per_dirty", float64(second.ReadBytes)/float64(s.dirtyBytes()))
	var point captured
	if err := json.Unmarshal(first, &point); err != nil {
		return err
	}
	return readServed(ctx, s, self, store, point.PointID)
}

func (w *workplace) dirtyBytes() (n int64) {
	for _, e := range w.dirty {
		n += total(e)
	}
	return n
}

const identityFile = "identity"

// createStore makes a store that opens with an identity, as exports at night do.
// The identity lies beside it.
func createStore(ctx context.Context, path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	id, err := imagestore.NewIdentity()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+"."+identityFile, []byte(id.SecretText()), 0o600); err != nil {
		return err
	}
	dir, err := durable.OpenOS(path, false)
	if err != nil {
		return err
	}
	return imagestore.Create(ctx, dir, imagestore.CreateOptions{
		Drive: lifeboat.Drive{ID: imagestore.NewID(), Label: "bench"}, Site: imagestore.NewSite("bench"), Program: "bench", Now: time.Now(),
		Slots: []imagestore.NewSlot{{Name: "control machine", Recipient: id.Recipient()}},
	})
}

func openStore(ctx context.Context, path string, o imagestore.OpenOptions) (*imagestore.Store, error) {
	text, err := os.ReadFile(path + "." + identityFile)
	if err != nil {
		return nil, err
	}
	id, err := imagestore.ParseIdentity(string(text))
	if err != nil {
		return nil, err
	}
	dir, err := durable.OpenOS(path, false)
	if err != nil {
		return nil, err
	}
	return imagestore.Open(ctx, dir, []imagestore.Secret{id.Secret()}, o)
}

// captured is what capture-disks prints.
type captured struct {
	PointID   string `json:"pointId"`
	ReadBytes int64  `json:"readBytes"`
}

// changedDisk is an image together with what a hypervisor says has changed. It
// counts what is read of it.
type changedDisk struct {
	*diskfile.File
	changed []extent
	list    bool
	read    *atomic.Int64
}

func (d changedDisk) Changed(context.Context) ([]extent, bool, string) {
	if !d.list {
		return nil, false, "there is no list"
	}
	return d.changed, true, ""
}

func (d changedDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	d.read.Add(int64(len(p)))
	return d.File.ReadAt(ctx, p, offset)
}

// captureDisks stores the fleet as one machine. With a list of changes, what is
// in the store must be the state that the list counts from.
func captureDisks(args []string) (err error) {
	flags := flag.NewFlagSet("capture-disks", flag.ExitOnError)
	store := flags.String("store", "", "the store")
	disks := flags.String("disks", "", "folder of the images")
	changes := flags.String("changes", "", "file with what changed, by disk")
	flags.Parse(args)
	ctx := context.Background()
	dirty := map[string][]extent{}
	if *changes != "" {
		text, err := os.ReadFile(*changes)
		if err == nil {
			err = json.Unmarshal(text, &dirty)
		}
		if err != nil {
			return err
		}
	}
	s, err := openStore(ctx, *store, imagestore.OpenOptions{Mode: imagestore.Write})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var read atomic.Int64
	c := imagestore.Capture{TakenAt: time.Now(), Program: "bench", Machine: lifeboat.Machine{ID: "fleet", Name: "fleet"},
		Sources: map[string]imagestore.Source{}, Tokens: map[string]string{}, Since: map[string]string{}}
	for _, name := range diskNames {
		f, err := openDisk(filepath.Join(*disks, name+".raw"))
		if err != nil {
			return err
		}
		defer f.Close()
		c.Machine.Disks = append(c.Machine.Disks, lifeboat.Disk{Key: name, SizeBytes: f.SizeBytes()})
		c.Sources[name] = changedDisk{f, dirty[name], *changes != "", &read}
		c.Tokens[name] = "today"
		if *changes != "" {
			c.Since[name], c.Tokens[name] = "today", "tomorrow"
		}
	}
	p, err := s.Capture(ctx, c)
	if err != nil {
		return err
	}
	for _, d := range p.Disks {
		if d.FullRead != "" && *changes != "" {
			return fmt.Errorf("disk %s was read whole: %s", d.Key, d.FullRead)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(captured{p.ID, read.Load()})
}

// servedDisk gives a stored disk to the NBD server.
type servedDisk struct{ *imagestore.Disk }

func (d servedDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	n, err := d.ReadAtContext(ctx, p, offset)
	if n == len(p) && errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// serveDisks gives out the disks of a point until it is ended.
func serveDisks(args []string) error {
	flags := flag.NewFlagSet("serve-disks", flag.ExitOnError)
	store := flags.String("store", "", "the store")
	point := flags.String("point", "", "the restore point")
	socket := flags.String("socket", "", "where to listen")
	cache := flags.Int64("cache", 0, "bytes of decoded frames to keep; 0 for as many as the program keeps")
	flags.Parse(args)
	ctx := context.Background()
	s, err := openStore(ctx, *store, imagestore.OpenOptions{CacheBytes: *cache})
	if err != nil {
		return err
	}
	defer s.Close()
	exports := map[string]nbd.Export{}
	for _, name := range diskNames {
		d, err := s.Disk(ctx, *point, name)
		if err != nil {
			return err
		}
		exports[name] = servedDisk{d}
	}
	l, err := net.Listen("unix", *socket)
	if err != nil {
		return err
	}
	fail := func(export string, err error) { fmt.Fprintln(os.Stderr, strings.TrimSpace(export), err) }
	return nbd.NewServer(exports, nbd.ServerOptions{OnError: fail}).Serve(ctx, l)
}
