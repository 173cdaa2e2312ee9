package vsphere

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/vsphere/vmdk"
)

const (
	// importProgress is how often an import's lease is renewed, or a quarter of
	// its time if that is less. vCenter ends one after 5 minutes without a word,
	// which is taken for the time of a server that tells none.
	importProgress = 5 * time.Second
	importLease    = 5 * time.Minute
	// importStall is how long an import may make no headway at all. It is longer
	// than a slow drive sleeps.
	importStall = 10 * time.Minute
)

// upload is an import under way: disks that are written into a machine that the
// server makes.
type upload struct {
	h     *Host
	c     *vim25.Client
	lease *nfc.Lease
	info  *types.HttpNfcLeaseInfo
	total int64
	done  atomic.Int64 // bytes of disks, as the guest counts them
}

// stream is one disk on its way.
type stream struct {
	disk   lifeboat.Disk
	source hypervisor.DiskReader
	url    *url.URL
	// key is the server's word for the file, in its manifest.
	key string
	// sent, sha1 and sha256 are of what went over the wire.
	sent         int64
	sha1, sha256 hash.Hash
}

// streams finds the place of every disk among the files of a lease. Bytes that
// went into another disk would be a wrong machine that nothing notices: so the
// server's words for a file have to name the disk's controller and unit, or there
// has to be one disk only.
func (u *upload) streams(b *blueprint, disks map[string]hypervisor.Backing) ([]*stream, error) {
	var files []types.HttpNfcLeaseDeviceUrl
	for _, f := range u.info.DeviceUrl {
		if f.Disk == nil || *f.Disk {
			files = append(files, f)
		}
	}
	var list []*stream
	for _, disk := range b.loaded {
		word := b.words[disk.Key]
		var meant []types.HttpNfcLeaseDeviceUrl
		for _, f := range files {
			if lastPart(f.ImportKey) == word || lastPart(f.Key) == word {
				meant = append(meant, f)
			}
		}
		if len(b.loaded) == 1 && len(files) == 1 {
			meant = files
		}
		if len(meant) != 1 {
			return nil, fmt.Errorf("the server does not say which of its %d files is disk %s (%s)", len(files), disk.Key, word)
		}
		at, err := u.c.ParseURL(meant[0].Url)
		if err != nil || at.Scheme != "https" {
			return nil, fmt.Errorf("the server names the file of disk %s in no form that is known", disk.Key)
		}
		if meant[0].SslThumbprint != "" {
			u.c.SetThumbprint(at.Host, meant[0].SslThumbprint)
		}
		list = append(list, &stream{
			disk: disk, source: disks[disk.Key].Copy, url: at, key: meant[0].Key, sha1: sha1.New(), sha256: sha256.New(),
		})
	}
	return list, nil
}

func lastPart(key string) string { return key[strings.LastIndex(key, "/")+1:] }

// run carries all disks over and keeps the lease alive. It returns when the
// server has all of them.
func (u *upload) run(ctx context.Context, list []*stream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, s := range list {
		u.total += s.source.SizeBytes()
	}
	var keeper sync.WaitGroup
	finished := make(chan struct{})
	keeper.Go(func() {
		if err := u.keep(ctx, finished); err != nil {
			cancel(err)
		}
	})
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(u.h.o.StreamsPerDatastore)
	for _, s := range list {
		group.Go(func() error { return u.send(gctx, s) })
	}
	err := group.Wait()
	close(finished)
	keeper.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// keep renews the lease until everything is over, and gives up on an import that
// stands still.
func (u *upload) keep(ctx context.Context, finished <-chan struct{}) error {
	held := time.Duration(u.info.LeaseTimeout) * time.Second
	if held <= 0 {
		held = importLease
	}
	t := time.NewTicker(min(importProgress, held/4))
	defer t.Stop()
	last, since := int64(-1), time.Now()
	for renewed := time.Now(); ; {
		select {
		case <-finished:
			return nil
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		done := u.done.Load()
		if done != last {
			last, since = done, time.Now()
		} else if time.Since(since) > importStall {
			return fmt.Errorf("nothing of the disks was taken for %v", importStall)
		}
		asked := time.Now()
		err := u.renew(ctx, done, held/4)
		switch {
		case err == nil:
			renewed = asked
		case ctx.Err() != nil:
			return nil
		case leaseIsOver(err):
			return u.over(ctx, err)
		case time.Since(renewed) > held*3/4:
			return fmt.Errorf("renew the import's lease: %w", err)
		}
	}
}

// renew says how far the import is, and waits for the answer no longer than most:
// one answer that does not come must not cost the lease.
func (u *upload) renew(ctx context.Context, done int64, most time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, errSilent)
	defer cancel()
	percent := int32(0)
	if u.total > 0 {
		percent = int32(min(99, done*100/u.total))
	}
	return u.lease.Progress(ctx, percent)
}

// errTransferOver says that the server ended an import.
var errTransferOver = errors.New("the server ended the transfer of the disks, as it does when it is restarted or forgets a session")

// over is what happened to an import whose lease is no more: what the server says
// of it (a full datastore), or that it says nothing.
func (u *upload) over(ctx context.Context, err error) error {
	if why := u.reason(ctx, nil); why != nil {
		return why
	}
	return fmt.Errorf("%w (%v)", errTransferOver, err)
}

// leaseIsOver says that a lease cannot be renewed any more.
func leaseIsOver(err error) bool {
	return isMissing(err) || fault.Is(err, &types.InvalidState{}) || fault.Is(err, &types.Timedout{})
}

// send carries one disk over.
func (u *upload) send(ctx context.Context, s *stream) error {
	r, w := io.Pipe()
	var packing sync.WaitGroup
	packing.Go(func() { w.CloseWithError(u.pack(ctx, s, w)) })
	defer packing.Wait()
	defer r.CloseWithError(errors.New("the server takes no more"))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), io.TeeReader(r, s))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	err = u.c.Client.Do(ctx, req, func(res *http.Response) error {
		defer discard(res.Body)
		if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
			return fmt.Errorf("the server answers %s", words(res.Status))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("upload disk %s: %w", s.disk.Key, u.reason(ctx, err))
	}
	return nil
}

// Write counts and sums what is sent.
func (s *stream) Write(p []byte) (int, error) {
	s.sent += int64(len(p))
	s.sha1.Write(p)
	s.sha256.Write(p)
	return len(p), nil
}

// reason is why an upload ended: what the server says of its lease (a full
// datastore) tells more than a broken connection.
func (u *upload) reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	state, lookErr := u.lease.Properties(ctx, "error")
	switch {
	case lookErr == nil && state.Error != nil:
		return taskError(state.Error)
	case isMissing(lookErr):
		return errTransferOver
	}
	return err
}

// check compares what the server says that it received with what was sent, where
// the two can be compared: the same number of bytes, and a sum of a kind that is
// known.
func (u *upload) check(ctx context.Context, list []*stream) error {
	manifest, err := u.lease.GetManifest(ctx)
	if err != nil {
		// Not every server keeps one for what it receives.
		return nil
	}
	for _, s := range list {
		for _, entry := range manifest {
			if entry.Key != s.key || entry.Size != s.sent {
				continue
			}
			sum := hex.EncodeToString(s.sha1.Sum(nil))
			wrong := entry.Sha1 != "" && !strings.EqualFold(entry.Sha1, sum)
			if entry.ChecksumType == string(types.HttpNfcLeaseManifestEntryChecksumTypeSha256) && entry.Checksum != "" {
				wrong = wrong || !strings.EqualFold(entry.Checksum, hex.EncodeToString(s.sha256.Sum(nil)))
			}
			if wrong {
				return fmt.Errorf("disk %s did not arrive as it was sent: the checksums differ", s.disk.Key)
			}
		}
	}
	return nil
}

// pack writes a disk as a streamOptimized VMDK.
func (u *upload) pack(ctx context.Context, s *stream, w io.Writer) error {
	out, err := vmdk.NewWriter(w, vsphereSize(s.disk), vmdk.Options{})
	if err != nil {
		return err
	}
	at := int64(0)
	err = copyGrains(ctx, s.source, func(offset int64, p []byte) error {
		u.done.Add(offset - at)
		at = offset
		return out.WriteGrain(offset, p)
	})
	closeErr := out.Close()
	if err != nil {
		return fmt.Errorf("read disk %s: %w", s.disk.Key, err)
	}
	u.done.Add(s.source.SizeBytes() - at)
	return closeErr
}
