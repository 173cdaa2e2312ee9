package lifeboat_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "lifeboat"

// floors says on which floor each room stands. An import goes down only;
// neighbours on one floor do not know each other, except where doors says so.
var floors = map[string]int{
	"cmd/lifeboat":          4,
	"rotation":              2,
	"runbook":               2,
	"imagestore":            1,
	"catalog":               1,
	"blockdev":              1,
	"diskfile":              1,
	"hypervisor/qemu":       1,
	"hypervisor/libvirt":    1,
	"hypervisor/vsphere":    1,
	"hypervisor":            0,
	"imagestore/format":     0,
	"nbd":                   0,
	"netlab":                0,
	"yamlfile":              0,
	"internal/durable":      0,
	"custody":               0,
	"":                      0,
	"fixtures":              fixtureFloor,
	"fixtures/baddrive":     fixtureFloor,
	"fixtures/guests":       fixtureFloor,
	"fixtures/libvirtd":     fixtureFloor,
	"fixtures/vcenter":      fixtureFloor,
	"fixtures/hostsuite":    fixtureFloor,
	"fixtures/demo":         fixtureFloor,
	"fixtures/secondreader": fixtureFloor,
	"fixtures/whole":        fixtureFloor,
	"build/tools":           fixtureFloor,
	"bench":                 fixtureFloor,
}

// fixtureFloor stands beside the house: fixtures may import any room but the
// roof, and are imported by tests and by the demo only.
const fixtureFloor = 9

// sameFloor lists the imports between neighbours that the design allows: the
// ground's own foundation, and nothing else.
var sameFloor = map[string][]string{
	"hypervisor":        {""},
	"imagestore/format": {""},
	"nbd":               {""},
	"netlab":            {""},
	"custody":           {""},
	"internal/durable":  {""},
}

// doors names the one room that each library may be imported by.
var doors = map[string][]string{
	"filippo.io/age":                           {"imagestore", "fixtures/secondreader"},
	"github.com/klauspost/compress":            {"imagestore", "imagestore/format", "hypervisor/vsphere/vmdk", "fixtures/secondreader"},
	"github.com/klauspost/reedsolomon":         {"imagestore"},
	"github.com/DataDog/zstd":                  {"imagestore/format"},
	"github.com/zeebo/blake3":                  {"imagestore", "imagestore/format"},
	"github.com/cespare/xxhash/v2":             {"imagestore/format"},
	"golang.org/x/text":                        {"imagestore", "fixtures/secondreader"},
	"golang.org/x/crypto":                      {"imagestore"},
	"rsc.io/qr":                                {"rotation"},
	"modernc.org/sqlite":                       {"catalog"},
	"github.com/pressly/goose/v3":              {"catalog"},
	"github.com/spf13/cobra":                   {"cmd/lifeboat"},
	"github.com/spf13/pflag":                   {"cmd/lifeboat"},
	"github.com/muesli/mango-cobra":            {"cmd/lifeboat"},
	"github.com/muesli/roff":                   {"cmd/lifeboat"},
	"golang.org/x/term":                        {"cmd/lifeboat"},
	"gopkg.in/yaml.v3":                         {"yamlfile", "cmd/lifeboat"},
	"golang.org/x/sync":                        nil, // anywhere
	"golang.org/x/sys":                         nil,
	"github.com/rogpeppe/go-internal":          {testsOnly},
	"github.com/google/go-cmp":                 {testsOnly},
	"pgregory.net/rapid":                       {testsOnly},
	"github.com/santhosh-tekuri/jsonschema/v6": {testsOnly},
	"github.com/vmware/govmomi":                {"hypervisor/vsphere", "fixtures/vcenter"},
	"libvirt.org/go/libvirt":                   {"hypervisor/libvirt"},
	"libvirt.org/go/libvirtxml":                {"hypervisor/libvirt"},
	"github.com/diskfs/go-diskfs":              {"golden", "blockdev", "fixtures"},
	"github.com/vishvananda/netlink":           {"netlab"},
	"github.com/vishvananda/netns":             {"netlab"},
	"github.com/insomniacslk/dhcp":             {"netlab"},
	"github.com/google/nftables":               {"netlab"},
	"golang.zx2c4.com/wireguard":               {"netlab"},
	"golang.org/x/net":                         {"netlab"},
	"charm.land/bubbletea/v2":                  {"tui"},
}

const testsOnly = "tests"

type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Standard     bool
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-tags=libvirt_dlopen", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// room is the folder of one of our packages; ok is false for anybody else's.
func room(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// floorOf finds the floor of a room, or of the nearest room above it.
func floorOf(name string) (floor int, known bool) {
	for {
		if f, ok := floors[name]; ok {
			return f, true
		}
		i := strings.LastIndex(name, "/")
		if i < 0 {
			return 0, false
		}
		name = name[:i]
	}
}

func TestImportsGoDownTheFloorsOnly(t *testing.T) {
	for _, p := range packages(t) {
		name, _ := room(p.ImportPath)
		floor, known := floorOf(name)
		if !known {
			t.Errorf("%s stands on no floor: add it to floors in architecture_test.go, after reading the house in the design", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if why := wrongImport(name, floor, imp); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imp, why)
			}
		}
	}
}

// wrongImport says why a room's import of one of our packages is not allowed,
// and what to do instead; "" where it is.
func wrongImport(name string, floor int, imp string) string {
	target, ours := room(imp)
	if !ours {
		return ""
	}
	down, known := floorOf(target)
	switch {
	case !known:
		return "that room stands on no floor yet"
	case strings.HasPrefix(target, "fixtures") && floor != fixtureFloor:
		return "fixtures are for tests and the demo: move what you need into a room"
	case floor == fixtureFloor && target == "cmd/lifeboat":
		return "a fixture drives the program as a person would: run the binary"
	case floor == fixtureFloor, down < floor, target == "":
		return ""
	case down == floor && slices.Contains(sameFloor[name], target):
		return ""
	case down == floor && strings.HasPrefix(target, name+"/"):
		return ""
	case down == floor && strings.HasPrefix(name, "hypervisor/") && target == "hypervisor":
		return ""
	case down > floor:
		return fmt.Sprintf("it stands on floor %d and may not know floor %d: declare a small interface beside the caller and let cmd/lifeboat wire it", floor, down)
	default:
		return "neighbours on a floor do not know each other: say the shared noun in the root package, or wire them in cmd/lifeboat"
	}
}

func TestEachLibraryEntersThroughItsDoor(t *testing.T) {
	for _, p := range packages(t) {
		name, _ := room(p.ImportPath)
		for _, imp := range p.Imports {
			library, allowed, known := doorOf(imp)
			if library == "" {
				continue
			}
			if !known {
				t.Errorf("%s imports %s, which has no door: write a decision and add it to doors in architecture_test.go", p.ImportPath, imp)
				continue
			}
			if allowed == nil || slices.Contains(allowed, name) {
				continue
			}
			if floor, _ := floorOf(name); floor == fixtureFloor && slices.Contains(allowed, testsOnly) {
				continue
			}
			t.Errorf("%s imports %s, whose door is %s: ask that room for what you need", p.ImportPath, imp, strings.Join(allowed, " or "))
		}
	}
}

// doorOf finds the library that an import belongs to; "" for the standard
// library and our own rooms.
func doorOf(imp string) (library string, allowed []string, known bool) {
	if _, ours := room(imp); ours || !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
		return "", nil, true
	}
	for lib, rooms := range doors {
		if imp == lib || strings.HasPrefix(imp, lib+"/") {
			return lib, rooms, true
		}
	}
	return imp, nil, false
}

func TestTheRootKnowsOnlyTheStandardLibrary(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != module {
			continue
		}
		for _, imp := range p.Imports {
			if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") || imp == "os" || imp == "net" {
				t.Errorf("the root package imports %s: it holds nouns, and does no I/O", imp)
			}
		}
	}
}

func TestNoRoomIsNamedAfterNothing(t *testing.T) {
	for _, p := range packages(t) {
		for _, part := range strings.Split(p.ImportPath, "/") {
			switch part {
			case "util", "utils", "common", "types", "models", "errors", "config", "backup", "restore", "manager":
				t.Errorf("%s: name the room after what it owns", p.ImportPath)
			}
		}
	}
}
