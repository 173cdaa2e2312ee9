//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lv "libvirt.org/go/libvirt"

	"lifeboat/nbd"
)

// standIn reads and writes in the guest's stead.
type standIn struct {
	h   *Host
	dir string
}

// pieceMost is how much the stand-in writes at a time. QEMU stops a guest that
// finds no space for a piece, and lets it try again; this stand-in is no such
// guest. See TestAGuestThatFillsTheScratchSpaceAtOnceGoesOn for one that is.
const pieceMost = 64 << 10

// Write lets the device of a disk carry out a write of qemu-io, on the same path
// as its guest. QEMU does not say how it ended: Check looks.
func (g standIn) Write(ctx context.Context, machine, disk string, offset, length int64, pattern byte) error {
	for end := offset + length; offset < end; offset += pieceMost {
		n := min(pieceMost, end-offset)
		var said string
		err := g.on(ctx, machine, disk, func(dom *lv.Domain, device string) (err error) {
			line := fmt.Sprintf("qemu-io -d %s \"write -P 0x%02x %d %d\"", device, pattern, offset, n)
			said, err = dom.QemuMonitorCommand(line, lv.DOMAIN_QEMU_MONITOR_COMMAND_HMP)
			return err
		})
		if said = strings.TrimSpace(said); err == nil && said != "" {
			err = errors.New(said)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// on calls f with the QOM path of a disk's device.
func (g standIn) on(ctx context.Context, machine, key string, f func(dom *lv.Domain, device string) error) error {
	d, err := g.h.find(ctx, machine)
	if err != nil {
		return err
	}
	return d.do(ctx, "act in the guest's stead", func(dom *lv.Domain) error {
		text, err := dom.GetXMLDesc(0)
		if err != nil {
			return err
		}
		doc, err := parseDomain(text)
		if err != nil {
			return err
		}
		for i := range doc.Devices.Disks {
			if disk := &doc.Devices.Disks[i]; sourceOf(disk).key == key && disk.Alias != nil {
				return f(dom, "/machine/peripheral/"+disk.Alias.Name+"/virtio-backend")
			}
		}
		return fmt.Errorf("%s has no disk %s", machine, key)
	})
}

// Check reads what the guest of a disk would read, through an export of the node
// that its device uses, and fails if a byte is not the given one.
func (g standIn) Check(ctx context.Context, machine, key string, offset, length int64, pattern byte) error {
	data := make([]byte, length)
	for deadline := time.Now().Add(10 * time.Second); ; {
		borrowed, err := g.read(ctx, machine, key, data, offset)
		if err == nil {
			break
		}
		// The server of a still goes when the still breaks; the guest reads on.
		if !borrowed || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
	for i, b := range data {
		if b != pattern {
			return fmt.Errorf("byte %d is 0x%02x, not 0x%02x", offset+int64(i), b, pattern)
		}
	}
	return nil
}

// read says as well whether it had to use the server of a still.
func (g standIn) read(ctx context.Context, machine, key string, data []byte, offset int64) (borrowed bool, err error) {
	d, err := g.h.find(ctx, machine)
	if err != nil {
		return false, err
	}
	socket := filepath.Join(g.dir, "check.sock")
	err = g.on(ctx, machine, key, func(dom *lv.Domain, device string) error {
		node, err := nodeOf(dom, device)
		if err != nil {
			return err
		}
		os.Remove(socket)
		address := map[string]any{"type": "unix", "data": map[string]any{"path": socket}}
		if err := qmp(dom, "nbd-server-start", map[string]any{"addr": address}, nil); err != nil {
			borrowed = true
		}
		return qmp(dom, "block-export-add", map[string]any{"type": "nbd", "id": "check", "node-name": node, "name": "check"}, nil)
	})
	if borrowed {
		if socket, _, err = d.backupSocket(ctx); err == nil && socket == "" {
			err = errors.New("the still's server is gone")
		}
	}
	if err != nil {
		return borrowed, err
	}
	defer g.on(context.WithoutCancel(ctx), machine, key, func(dom *lv.Domain, _ string) error {
		qmp(dom, "block-export-del", map[string]any{"id": "check", "mode": "hard"}, nil)
		for exports := []struct{ ID string }{{"check"}}; len(exports) > 0 && exports[0].ID == "check"; {
			if qmp(dom, "query-block-exports", nil, &exports) != nil {
				return nil
			}
		}
		if !borrowed {
			return qmp(dom, "nbd-server-stop", nil, nil)
		}
		return nil
	})
	client, err := nbd.Dial(ctx, "unix", socket, "check", nbd.DialOptions{})
	if err != nil {
		return borrowed, err
	}
	defer client.Close()
	return borrowed, client.ReadAt(ctx, data, offset)
}

// nodeOf is the block node that a device uses now.
func nodeOf(dom *lv.Domain, device string) (string, error) {
	var devices []struct {
		Qdev     string
		Inserted struct {
			Node string `json:"node-name"`
		}
	}
	if err := qmp(dom, "query-block", nil, &devices); err != nil {
		return "", err
	}
	for _, d := range devices {
		if d.Qdev == device {
			return d.Inserted.Node, nil
		}
	}
	return "", fmt.Errorf("QEMU has no %s", device)
}

// qmp tells QEMU something behind libvirt's back.
func qmp(dom *lv.Domain, command string, arguments map[string]any, answer any) error {
	order := map[string]any{"execute": command}
	if arguments != nil {
		order["arguments"] = arguments
	}
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	said, err := dom.QemuMonitorCommand(string(text), 0)
	if err != nil {
		return err
	}
	var got struct {
		Return json.RawMessage
		Error  *struct{ Desc string }
	}
	if err := json.Unmarshal([]byte(said), &got); err != nil {
		return err
	}
	if got.Error != nil {
		return errors.New(got.Error.Desc)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got.Return, answer)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until something is so.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
