package libvirt

import (
	"os"
	"slices"
	"testing"
)

func TestScratchFilesOnAnotherFileSystemAreSeen(t *testing.T) {
	here := t.TempDir()
	if err := os.WriteFile(here+"/a", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	disks := []diskSource{{key: "vda", path: here + "/a"}, {key: "vdb", path: "/proc/self/stat"}, {key: "vdc", path: "/dev/null"}, {key: "net"}}
	if got := apart(here, disks); !slices.Equal(got, []string{"vdb", "vdc"}) {
		t.Errorf("apart are %v", got)
	}
	if got := apart("", disks); got != nil {
		t.Errorf("without a folder %v are apart", got)
	}
}
