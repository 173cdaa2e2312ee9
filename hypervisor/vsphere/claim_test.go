package vsphere

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

func TestAClaimSaysWhetherItsExportLives(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	mine := newClaim(now)
	name := newSnapshotName()
	other := mine
	other.computer = "0123456789abcdef"
	with := func(c claim, change func(*claim)) claim {
		change(&c)
		return c
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		claim claim
		at    time.Time
		lives bool
	}{
		{"this process, which does not hold it", mine, now, false},
		{"another process here that lives", with(mine, func(c *claim) { c.pid = int64(os.Getppid()); c.born = bornAt(c.pid) }), now.Add(48 * time.Hour), true},
		{"a later process of the same number", with(mine, func(c *claim) { c.pid = int64(os.Getppid()); c.born = bornAt(c.pid) - 1 }), now, false},
		{"a process that ended", with(mine, func(c *claim) { c.pid = int64(dead.Process.Pid) }), now, false},
		{"another computer that beats", with(other, func(c *claim) { c.beats = 3 }), now.Add(silence - time.Second), true},
		{"another computer that is silent", with(other, func(c *claim) { c.beats = 3 }), now.Add(silence), false},
		{"another computer that cannot beat", other, now.Add(longSilence - time.Second), true},
		{"another computer that never beat", other, now.Add(longSilence), false},
	}
	for _, test := range tests {
		if _, lives := test.claim.lives(name, test.at); lives != test.lives {
			t.Errorf("%s: lives is %v", test.name, lives)
		}
	}
	heldHere.Store(name, true)
	defer heldHere.Delete(name)
	if _, lives := mine.lives(name, now); !lives {
		t.Error("this process holds it, and it counts as dead")
	}
}

func TestOnlyOurOwnSnapshotsAreOurs(t *testing.T) {
	c := newClaim(time.Now())
	tree := func(name, description string, children ...types.VirtualMachineSnapshotTree) types.VirtualMachineSnapshotTree {
		return types.VirtualMachineSnapshotTree{Name: name, Description: description, ChildSnapshotList: children}
	}
	own := newSnapshotName()
	info := &types.VirtualMachineSnapshotInfo{RootSnapshotList: []types.VirtualMachineSnapshotTree{
		tree("before the update", "", tree(own, c.text())),
		tree(snapshotPrefix+"by hand", "I made this one"),
		tree("somebody's", c.text()),
		tree(newSnapshotName(), claimWords),
		tree(newSnapshotName(), c.text()[:len(c.text())-8]),
	}}
	list, claims := ours(info)
	if len(list) != 1 || list[0].Name != own || claims[0] != c {
		t.Errorf("ours are %v, %v", list, claims)
	}
}

func FuzzAClaim(f *testing.F) {
	f.Add(newClaim(time.Unix(1e9, 0)).text())
	f.Fuzz(func(t *testing.T, text string) {
		if c, ok := parseClaim(text); ok {
			c.by = claimWord(c.by)
			c.lives("any", time.Unix(1e9, 0))
		}
	})
}
