package rotation_test

import (
	"errors"
	"fmt"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

func TestProgramsOnADriveAreCheckedAndPutRight(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(*baddrive.Drive)
		want   rotation.ProgramState
	}{
		"right":     {func(*baddrive.Drive) {}, rotation.ProgramRight},
		"one bit":   {func(d *baddrive.Drive) { d.FlipBit("lifeboat/bin/lifeboat-linux-arm64", 7) }, rotation.ProgramOther},
		"cut off":   {func(d *baddrive.Drive) { d.Truncate("lifeboat/bin/lifeboat-linux-arm64", 5) }, rotation.ProgramOther},
		"bad block": {func(d *baddrive.Drive) { d.Unreadable("lifeboat/bin/lifeboat-linux-arm64", 0, 1) }, rotation.ProgramOther},
		"missing": {func(d *baddrive.Drive) {
			if err := d.Dir().Remove("lifeboat/bin/lifeboat-linux-arm64"); err != nil {
				t.Fatal(err)
			}
		}, rotation.ProgramMissing},
	} {
		t.Run(name, func(t *testing.T) {
			drive := baddrive.New(1, baddrive.Options{})
			if err := rotation.InitDir(t.Context(), drive.Dir(), idA, options("A")); err != nil {
				t.Fatal(err)
			}
			c.damage(drive)
			findings, err := rotation.CheckPrograms(drive.ReadOnlyDir(), programs())
			if err != nil || len(findings) != 2 || findings[0].State != rotation.ProgramRight || findings[1].State != c.want {
				t.Fatalf("%+v, %v", findings, err)
			}
			if _, err := rotation.WritePrograms(drive.Dir(), programs()); err != nil {
				t.Fatal(err)
			}
			checkWhole(t, drive.Dir(), idA)
		})
	}
}

func TestAForeignProgramOnADriveIsReported(t *testing.T) {
	drive := baddrive.New(1, baddrive.Options{})
	err := errors.Join(rotation.InitDir(t.Context(), drive.Dir(), idA, options("A")),
		durable.WriteFileAtomic(drive.Dir(), "lifeboat/bin/setup.exe", []byte("MZ")))
	if err != nil {
		t.Fatal(err)
	}
	findings, err := rotation.CheckPrograms(drive.Dir(), programs())
	if err != nil || len(findings) != 3 || findings[2].State != rotation.ProgramForeign || findings[2].File != "setup.exe" {
		t.Errorf("%+v, %v", findings, err)
	}
}

func TestAnOlderProgramForAnotherMachineStaysListed(t *testing.T) {
	drive := baddrive.New(1, baddrive.Options{})
	if err := rotation.InitDir(t.Context(), drive.Dir(), idA, options("A")); err != nil {
		t.Fatal(err)
	}
	newer := []rotation.ProgramSource{program("amd64", "newer")}
	if _, err := rotation.WritePrograms(drive.Dir(), newer); err != nil {
		t.Fatal(err)
	}
	want, err := rotation.HashPrograms([]rotation.ProgramSource{newer[0], programs()[1]})
	if err != nil {
		t.Fatal(err)
	}
	sums, err := durable.ReadWhole(drive.Dir(), "lifeboat/bin/SHA256SUMS", 1000)
	if err != nil || string(sums) != fmt.Sprintf("%s  %s\n%s  %s\n", want[0].SHA256, want[0].File, want[1].SHA256, want[1].File) {
		t.Errorf("%v\n%s", err, sums)
	}
}

func TestADriveThatGoesAwayIsNotTakenForOneWithoutPrograms(t *testing.T) {
	drive := baddrive.New(1, baddrive.Options{})
	if err := rotation.InitDir(t.Context(), drive.Dir(), idA, options("A")); err != nil {
		t.Fatal(err)
	}
	dir := drive.Dir()
	drive.Vanish()
	if _, err := rotation.CheckPrograms(dir, programs()); !errors.Is(err, lifeboat.ErrDriveGone) {
		t.Errorf("got %v", err)
	}
	if _, err := rotation.WritePrograms(dir, programs()); !errors.Is(err, lifeboat.ErrDriveGone) {
		t.Errorf("got %v", err)
	}
}

func TestOnlyKnownKindsOfProgramsGoOntoADrive(t *testing.T) {
	if _, err := rotation.HashPrograms([]rotation.ProgramSource{program("../../x", "")}); err == nil {
		t.Error("a program named like a path was taken")
	}
}
