package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/hypervisor/vsphere/vmdk"
)

const (
	// leaseTime bounds the making of a lease.
	leaseTime = 5 * time.Minute
	// progressEvery is how often a lease is renewed, or a quarter of its time if
	// that is less.
	progressEvery = 30 * time.Second
	// stallTime is how long a stream may bring nothing while it is waited for.
	stallTime = 3 * time.Minute
)

// lease is the server's permission to fetch the disks of a snapshot as streams.
// It is asked for when the first stream is wanted, renewed as long as the still
// lives, and made anew if the server ended it.
type lease struct {
	s *still

	mu      sync.Mutex
	current *leased
}

// leased is one lease.
type leased struct {
	lease *nfc.Lease
	urls  map[int32]*url.URL // by the keys of the disks' devices
	stop  context.CancelFunc
	ended chan struct{} // closed when the server does not renew it any more
}

// open begins the stream of a disk.
func (l *lease) open(ctx context.Context, sd *stillDisk) (grains, func(), error) {
	u, err := l.url(ctx, sd)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	res, err := l.s.h.get(ctx, u, map[string]string{"Accept-Encoding": "identity"})
	if err != nil {
		cancel(nil)
		return nil, nil, err
	}
	stop := func() {
		cancel(nil)
		_ = res.Body.Close()
	}
	if res.StatusCode != http.StatusOK {
		// Asked before the end of ctx: what it says of the lease decides.
		err := l.refused(ctx, res)
		stop()
		return nil, nil, err
	}
	r, err := vmdk.NewReader(&watched{ctx: ctx, body: res.Body, cancel: cancel})
	if err != nil {
		stop()
		return nil, nil, err
	}
	return r, stop, nil
}

// refused words an answer that is no stream. If the lease is over, the next try
// gets a new one.
func (l *lease) refused(ctx context.Context, res *http.Response) error {
	err := fmt.Errorf("the server answers %s when the stream of a disk is fetched", words(res.Status))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return err
	}
	var state mo.HttpNfcLease
	lookErr := property.DefaultCollector(l.s.c).RetrieveOne(ctx, l.current.lease.Reference(), []string{"state"}, &state)
	if isMissing(lookErr) || lookErr == nil && state.State != types.HttpNfcLeaseStateReady {
		l.abort(ctx)
		return err
	}
	if lookErr != nil || res.StatusCode >= 500 {
		return err
	}
	return fmt.Errorf("%w: %w", errWay, err)
}

// watched is a body that ends when it brings nothing for too long while somebody
// waits for it.
type watched struct {
	ctx    context.Context
	body   io.Reader
	cancel context.CancelCauseFunc
}

var errStalled = fmt.Errorf("the server sent nothing for %v", stallTime)

func (w *watched) Read(p []byte) (int, error) {
	t := time.AfterFunc(stallTime, func() { w.cancel(errStalled) })
	defer t.Stop()
	n, err := w.body.Read(p)
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// url is where the stream of a disk is fetched from.
func (l *lease) url(ctx context.Context, sd *stillDisk) (*url.URL, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil {
		select {
		case <-l.current.ended:
			l.abort(ctx)
		default:
		}
	}
	if l.current == nil {
		if err := l.begin(ctx); err != nil {
			return nil, l.s.h.explain("export "+words(l.s.f.name())+" as a stream", words(l.s.f.name())+" goes on as it is", err)
		}
	}
	u, ok := l.current.urls[sd.d.device.Key]
	if !ok {
		return nil, fmt.Errorf("%w: the server does not say which of its streams is disk %s", errWay, sd.d.Key)
	}
	return u, nil
}

// begin asks for a lease and keeps it alive. The caller holds l.mu.
func (l *lease) begin(ctx context.Context) error {
	c := l.s.c
	// Where it may not, nobody waits for its beats.
	_ = l.s.beat(ctx, true)
	res, err := methods.ExportSnapshot(ctx, c, &types.ExportSnapshot{This: l.s.snapshot})
	if err != nil {
		return err
	}
	made := &leased{lease: nfc.NewLease(c, res.Returnval), ended: make(chan struct{})}
	info, err := leaseReady(ctx, c, made.lease, leaseTime)
	if err != nil {
		_ = made.lease.Abort(context.WithoutCancel(ctx), nil)
		return err
	}
	if made.urls, err = l.streams(info); err != nil {
		_ = made.lease.Abort(context.WithoutCancel(ctx), nil)
		return err
	}
	alive, stop := context.WithCancel(l.s.ctx)
	made.stop = stop
	every := progressEvery
	if quarter := time.Duration(info.LeaseTimeout) * time.Second / 4; quarter > 0 {
		every = min(every, quarter)
	}
	l.s.work.Go(func() { l.renew(alive, made, every) })
	l.current = made
	return nil
}

// renew keeps a lease alive until it is stopped.
func (l *lease) renew(ctx context.Context, made *leased, every time.Duration) {
	failed := 0
	for sleep(ctx, every) == nil {
		err := made.lease.Progress(ctx, l.percent())
		if failed++; err == nil {
			failed = 0
		}
		if failed == 3 || leaseIsOver(err) {
			close(made.ended)
			return
		}
	}
}

// percent is how much of the disks has come, for the server's own list of tasks.
func (l *lease) percent() int32 {
	var done, total int64
	for _, sd := range l.s.disks {
		if sd.forward == nil {
			continue
		}
		sd.forward.mu.Lock()
		done += sd.forward.seen
		sd.forward.mu.Unlock()
		total += sd.mark.size
	}
	if total == 0 {
		return 0
	}
	return int32(min(99, done*100/total))
}

// streams finds the disks among the files of a lease. A stream that was taken for
// another disk's would be a wrong image that nothing notices, so the server's
// words for it have to name the disk's place, or there has to be one disk only.
func (l *lease) streams(info *types.HttpNfcLeaseInfo) (map[int32]*url.URL, error) {
	var list []types.HttpNfcLeaseDeviceUrl
	for _, d := range info.DeviceUrl {
		if d.Disk == nil || *d.Disk {
			list = append(list, d)
		}
	}
	disks, classes := l.s.at.vdisks(), controllerClasses(l.s.at.vm.Config.Hardware.Device)
	urls := map[int32]*url.URL{}
	for _, disk := range disks {
		class := classes[disk.device.ControllerKey]
		var meant []types.HttpNfcLeaseDeviceUrl
		for _, d := range list {
			if namesPlace(d.Key, class, disk) || namesPlace(d.ImportKey, class, disk) {
				meant = append(meant, d)
			}
		}
		if len(disks) == 1 && len(list) == 1 {
			meant = list
		}
		if len(meant) != 1 {
			continue
		}
		u, err := l.s.c.ParseURL(meant[0].Url)
		if err != nil || u.Scheme != "https" {
			return nil, fmt.Errorf("%w: the server names the stream of disk %s in no form that is known", errWay, disk.Key)
		}
		if meant[0].SslThumbprint != "" {
			l.s.c.SetThumbprint(u.Host, meant[0].SslThumbprint)
		}
		urls[disk.device.Key] = u
	}
	return urls, nil
}

// namesPlace says whether a lease's word for a file ("/vm-12/ParaVirtualSCSIController0:1")
// names the place of a disk.
func namesPlace(word, class string, d vdisk) bool {
	at := word[strings.LastIndex(word, "/")+1:]
	return class != "" && d.device.UnitNumber != nil &&
		at == fmt.Sprintf("%s%d:%d", class, d.controller.number, *d.device.UnitNumber)
}

// controllerClasses names the classes of a machine's controllers, by their keys.
func controllerClasses(devices []types.BaseVirtualDevice) map[int32]string {
	classes := map[int32]string{}
	for _, d := range devices {
		if c, ok := d.(types.BaseVirtualController); ok {
			classes[c.GetVirtualController().Key] = reflect.TypeOf(d).Elem().Name()
		}
	}
	return classes
}

// abort gives up a lease. The caller holds l.mu.
func (l *lease) abort(ctx context.Context) {
	l.current.stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTime)
	defer cancel()
	// The server ends it by itself when it is not renewed.
	_ = l.current.lease.Abort(ctx, nil)
	l.current = nil
}

// end ends the lease, after which the server lets the snapshot be removed.
func (l *lease) end(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return
	}
	l.current.stop()
	ctx, cancel := context.WithTimeout(ctx, logoutTime)
	defer cancel()
	if err := l.current.lease.Complete(ctx); err != nil {
		_ = l.current.lease.Abort(ctx, nil)
	}
	l.current = nil
}
