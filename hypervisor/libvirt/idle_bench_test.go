//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
)

// meter counts the time in which at least one read of a disk is under way.
type meter struct {
	hypervisor.StillDisk
	mu      sync.Mutex
	flying  int
	since   time.Time
	working time.Duration
}

func (m *meter) ReadAt(ctx context.Context, p []byte, offset int64) error {
	m.count(1)
	defer m.count(-1)
	return m.StillDisk.ReadAt(ctx, p, offset)
}

func (m *meter) count(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flying == 0 {
		m.since = time.Now()
	}
	if m.flying += n; m.flying == 0 {
		m.working += time.Since(m.since)
	}
}

// BenchmarkExportToAStore exports a machine with a disk of 1 GiB, three quarters
// of it data that compresses to about half, and says for which share of the time
// the hypervisor had nothing to do.
func BenchmarkExportToAStore(b *testing.B) {
	const size = 1 << 30
	daemon := libvirtd.Start(b)
	h := openHost(b, daemon)
	raw, disk := daemon.Dir+"/big.raw", daemon.Dir+"/big.qcow2"
	writeNoise(b, raw, size)
	_, err := runImage(b.Context(), "convert", "-O", "qcow2", raw, disk)
	must(b, err)
	must(b, os.Remove(raw))
	define(b, daemon, `<domain type='qemu'><name>big</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
		<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='`+disk+`'/><target dev='vda' bus='virtio'/></disk>
		</devices></domain>`)
	must(b, h.PowerOn(b.Context(), "big"))
	d, err := h.find(b.Context(), "big")
	must(b, err)
	forgetAtEnd(b, d)
	b.SetBytes(size * 3 / 4)
	for b.Loop() {
		b.StopTimer()
		store := benchStore(b)
		b.StartTimer()
		begun := time.Now()
		s, err := h.Freeze(b.Context(), "big", hypervisor.FreezeOptions{DriveID: store.Drive().ID})
		must(b, err)
		still, err := s.Disk("vda")
		must(b, err)
		m := &meter{StillDisk: still}
		consistency, _ := s.Consistency()
		reading := time.Now()
		_, err = store.Capture(b.Context(), imagestore.Capture{
			Machine: s.Machine(), RunID: "run", TakenAt: s.TakenAt(), Consistency: consistency, Host: "test", Program: "test",
			Sources: map[string]imagestore.Source{"vda": m}, Tokens: map[string]string{"vda": still.Token()},
		})
		must(b, err)
		idle := time.Since(reading) - m.working
		must(b, s.Committed(b.Context()))
		must(b, s.Release(b.Context()))
		b.ReportMetric(100*idle.Seconds()/time.Since(begun).Seconds(), "%idle")
		b.StopTimer()
		must(b, store.Close())
		b.StartTimer()
	}
}

// writeNoise fills three quarters of a file, in runs of 1 MiB, with text of
// numbers by chance.
func writeNoise(b *testing.B, path string, size int64) {
	b.Helper()
	f, err := os.Create(path)
	must(b, err)
	defer f.Close()
	must(b, f.Truncate(size))
	random := rand.New(rand.NewPCG(1, 2))
	var text []byte
	for at := int64(0); at < size; at += 1 << 20 {
		if at>>20%4 == 3 {
			continue
		}
		for text = text[:0]; len(text) < 1<<20; {
			text = fmt.Appendf(text, "%x;", random.Uint64())
		}
		_, err := f.WriteAt(text[:1<<20], at)
		must(b, err)
	}
}

// benchStore makes an image store in a folder of the benchmark's.
func benchStore(b *testing.B) *imagestore.Store {
	b.Helper()
	dir, err := durable.OpenOS(b.TempDir(), false)
	must(b, err)
	id, err := imagestore.NewIdentity()
	must(b, err)
	must(b, imagestore.Create(b.Context(), dir, imagestore.CreateOptions{
		Drive: lifeboat.Drive{ID: imagestore.NewID(), Label: "A1"}, Site: imagestore.NewSite("a test"), Program: "test", Now: time.Now(),
		Slots: []imagestore.NewSlot{{Name: "control machine", Recipient: id.Recipient()}},
	}))
	store, err := imagestore.Open(b.Context(), dir, []imagestore.Secret{id.Secret()}, imagestore.OpenOptions{Mode: imagestore.Write})
	must(b, err)
	return store
}
