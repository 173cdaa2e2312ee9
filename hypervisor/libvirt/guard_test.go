//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	lv "libvirt.org/go/libvirt"
)

// testLateJob: a job that begins after its exporter gave up is ended by the guard.
func testLateJob(t *testing.T, p *production) {
	lock, err := lockMachine(t.Context(), p.d.name, p.d.uuid)
	must(t, err)
	fresh := newCheckpointName("drive-late", time.Now())
	g, err := p.d.startGuard(lock, guardOrder{Fresh: []string{fresh}})
	must(t, err)
	must(t, g.tell("late"))
	g.leave()
	lock.Close()
	time.Sleep(2 * rescueInterval) // the guard has looked and found nothing
	f, err := p.d.exportFolder(t.Context())
	must(t, err)
	backup, err := backupXML(f.path, []string{"vda", "vdb", "sda"}, []exportDisk{{key: "vda", target: "vda"}})
	must(t, err)
	checkpoint, err := checkpointXML(fresh, []string{"vda", "vdb", "sda"}, map[string]bool{"vda": true})
	must(t, err)
	eventually(t, jobPatience, "a job begins", func() bool {
		_ = os.Mkdir(f.path, 0o777) // the guard removes it whenever it looks
		_ = os.Chmod(f.path, 0o777)
		err := p.d.do(t.Context(), "begin a job", func(dom *lv.Domain) error { return dom.BackupBegin(backup, checkpoint, 0) })
		return err == nil
	})
	eventually(t, jobPatience, "the guard ended it", func() bool {
		_, there, err := p.d.backupSocket(t.Context())
		return err == nil && !there
	})
	lock, err = lockMachine(t.Context(), p.d.name, p.d.uuid)
	must(t, err) // and has gone
	lock.Close()
	for _, name := range p.checkpoints(t) {
		if name == fresh {
			t.Errorf("the checkpoint %s is still there", name)
		}
	}
}

// A guard that hangs holds nobody for ever, and what it says late is not taken
// for the answer to something else.
func TestAGuardThatHangsIsGivenUp(t *testing.T) {
	answers, far, err := os.Pipe()
	must(t, err)
	defer far.Close()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	g := &guard{cmd: cmd, in: in, pipe: answers, out: bufio.NewReader(answers)}
	if err := g.answer(20 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("it gives %v", err)
	}
	_, err = far.WriteString("ok\n")
	must(t, err)
	if err := g.tell("thaw"); err == nil {
		t.Error("a late answer was believed")
	}
	g.dismiss()
}
