package imagestore

import (
	"testing"

	"lifeboat/imagestore/format"
)

func TestRestoreGivesBackEveryByte(t *testing.T) {
	for _, size := range []int{0, 1, 512, format.BlockSize, 5*format.BlockSize + 17, format.RegionSize, 3*format.RegionSize + 513, 20 << 20} {
		drive := newDrive(t)
		s := openStore(t, drive.Dir(), Write)
		data := randomDisk(uint64(size), size)
		p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}, "empty": &memoryDisk{data: make([]byte, size)}}))
		checkDisk(t, s, p.ID, "disk0", data)
		checkDisk(t, s, p.ID, "empty", make([]byte, size))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again := openStore(t, drive.ReadOnlyDir(), Read)
		checkDisk(t, again, p.ID, "disk0", data)
		checkDisk(t, again, p.ID, "empty", make([]byte, size))
		points, faults, err := again.Points(t.Context())
		if err != nil || len(faults) != 0 || len(points) != 1 {
			t.Fatalf("points %v, faults %v, error %v", points, faults, err)
		}
	}
}
