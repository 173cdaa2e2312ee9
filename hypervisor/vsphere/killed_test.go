package vsphere

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

func TestWhatAKilledExporterLeftGoesWithTheNextExport(t *testing.T) {
	for _, method := range []string{MethodRanges, MethodNFC} {
		l := newLab(t, vcenter.Options{})
		m := l.web01(t, nil)
		since := l.since(t)
		m.Write(t, 0, mib, []byte("changed"))
		l.dieHolding(t, "web01", hypervisor.FreezeOptions{DriveID: "a", Since: since, Method: method})
		if m.Snapshots() != 1 {
			t.Fatalf("%d snapshots stand", m.Snapshots())
		}
		// The guest writes on, and the dead export's point does not exist.
		m.Write(t, 0, 9*mib, []byte("changed as well"))
		still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Since: since})
		d, err := still.Disk("scsi0-0")
		if err != nil {
			t.Fatal(err)
		}
		if changed, ok, why := d.Changed(t.Context()); !ok || len(parts(changed, lifeboat.Extent{Offset: mib, Length: 7})) != 1 || len(parts(changed, lifeboat.Extent{Offset: 9 * mib, Length: 15})) != 1 {
			t.Errorf("%s: the changes are %v (%s)", method, changed, why)
		}
		if !l.saw("left it behind") {
			t.Errorf("%s: the operator was told %v", method, l.told)
		}
		release(t, still)
		untouched(t, m)
	}
}

const dyingVariable = "LIFEBOAT_TEST_DYING_EXPORT"

// dyingOrder is what the process that is killed has to do.
type dyingOrder struct {
	URL, User, Password, Thumbprint, Machine string
	Freeze                                   hypervisor.FreezeOptions
}

// dieHolding lets another process hold a machine still, and kills it.
func (l *lab) dieHolding(t *testing.T, machine string, o hypervisor.FreezeOptions) {
	t.Helper()
	long, _ := l.Thumbprints()
	order, err := json.Marshal(dyingOrder{l.URL, l.User, l.Password, long, machine, o})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAProcessThatIsKilledWhileItHoldsAMachine$")
	cmd.Env = append(os.Environ(), dyingVariable+"="+string(order))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "now\n" {
		t.Errorf("the process to be killed said %q (%v)", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

// TestAProcessThatIsKilledWhileItHoldsAMachine is the other process, and nothing
// by itself.
func TestAProcessThatIsKilledWhileItHoldsAMachine(t *testing.T) {
	text := os.Getenv(dyingVariable)
	if text == "" {
		t.Skip("runs as a part of other tests")
	}
	var order dyingOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		t.Fatal(err)
	}
	h, err := Open(Options{Name: "dying", URL: order.URL, User: order.User, Password: order.Password, Thumbprint: order.Thumbprint})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Freeze(t.Context(), order.Machine, order.Freeze); err != nil {
		t.Fatal(err)
	}
	fmt.Println("now")
	select {}
}
