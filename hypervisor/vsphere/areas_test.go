package vsphere

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
	"pgregory.net/rapid"

	"lifeboat"
)

// page is what a server answers.
func page(start, length int64, areas ...int64) types.DiskChangeInfo {
	p := types.DiskChangeInfo{StartOffset: start, Length: length}
	for i := 0; i < len(areas); i += 2 {
		p.ChangedArea = append(p.ChangedArea, types.DiskChangeExtent{Start: areas[i], Length: areas[i+1]})
	}
	return p
}

func TestAChangeMapThatMakesNoSenseIsRefused(t *testing.T) {
	tests := map[string]struct {
		pages []types.DiskChangeInfo
		want  []lifeboat.Extent
	}{
		"one page":                  {[]types.DiskChangeInfo{page(0, 1000, 10, 20)}, []lifeboat.Extent{{Offset: 10, Length: 20}}},
		"nothing changed":           {[]types.DiskChangeInfo{page(0, 1000)}, nil},
		"three pages":               {[]types.DiskChangeInfo{page(0, 400, 10, 20), page(400, 500), page(900, 100, 950, 50)}, []lifeboat.Extent{{Offset: 10, Length: 20}, {Offset: 950, Length: 50}}},
		"areas that touch":          {[]types.DiskChangeInfo{page(0, 400, 390, 10), page(400, 600, 400, 5)}, []lifeboat.Extent{{Offset: 390, Length: 15}}},
		"no progress":               {[]types.DiskChangeInfo{page(0, 0)}, nil},
		"the first page for ever":   {[]types.DiskChangeInfo{page(0, 400, 10, 20), page(0, 400, 10, 20)}, nil},
		"a page too far":            {[]types.DiskChangeInfo{page(0, 400), page(500, 500)}, nil},
		"beyond the end":            {[]types.DiskChangeInfo{page(0, 1001)}, nil},
		"an area beyond its page":   {[]types.DiskChangeInfo{page(0, 400, 390, 20), page(400, 600)}, nil},
		"an area before its page":   {[]types.DiskChangeInfo{page(0, 400), page(400, 600, 399, 10)}, nil},
		"areas that overlap":        {[]types.DiskChangeInfo{page(0, 1000, 10, 20, 29, 5)}, nil},
		"areas that go back":        {[]types.DiskChangeInfo{page(0, 1000, 500, 20, 10, 5)}, nil},
		"an area of no bytes":       {[]types.DiskChangeInfo{page(0, 1000, 500, 0)}, nil},
		"a number that wraps round": {[]types.DiskChangeInfo{page(0, 1000, 500, 1<<63-1)}, nil},
		"a page that wraps round":   {[]types.DiskChangeInfo{page(0, 400), page(400, 1<<63-1)}, nil},
	}
	good := []string{"one page", "nothing changed", "three pages", "areas that touch"}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := 0
			got, err := wholeMap(t.Context(), 1000, func(context.Context, int64) (types.DiskChangeInfo, error) {
				n++
				return test.pages[min(n, len(test.pages))-1], nil
			})
			if slices.Contains(good, name) {
				if err != nil || !slices.Equal(got, test.want) || n != len(test.pages) {
					t.Errorf("%v, %v after %d pages", got, err, n)
				}
			} else if !errors.Is(err, errMap) {
				t.Errorf("it is believed: %v, %v", got, err)
			}
		})
	}
}

func TestAMapIsAskedForToTheEndOfTheDisk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 1<<40).Draw(t, "size")
		var areas []lifeboat.Extent
		at := int64(0)
		for range rapid.IntRange(0, 50).Draw(t, "areas") {
			from := at + rapid.Int64Range(1, 1<<35).Draw(t, "gap")
			length := rapid.Int64Range(1, 1<<30).Draw(t, "length")
			if from+length > size {
				break
			}
			areas = append(areas, lifeboat.Extent{Offset: from, Length: length})
			at = from + length
		}
		perPage := rapid.IntRange(1, 7).Draw(t, "areas per page")
		got, err := wholeMap(context.Background(), size, func(_ context.Context, start int64) (types.DiskChangeInfo, error) {
			p := types.DiskChangeInfo{StartOffset: start, Length: size - start}
			for _, a := range areas {
				if a.Offset < start {
					continue
				}
				if len(p.ChangedArea) == perPage {
					p.Length = p.ChangedArea[perPage-1].Start + p.ChangedArea[perPage-1].Length - start
					break
				}
				p.ChangedArea = append(p.ChangedArea, types.DiskChangeExtent{Start: a.Offset, Length: a.Length})
			}
			return p, nil
		})
		if err != nil || !slices.Equal(got, areas) {
			t.Fatalf("%v, %v, not %v", got, err, areas)
		}
	})
}

const tracking = "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63"

func TestATokenCountsOnlyForTheDiskItWasMadeFor(t *testing.T) {
	now := mark{change: tracking + "/81", disk: "6000C29d-2d1e", size: 1 << 30}
	with := func(change func(*mark)) string {
		m := now
		change(&m)
		return m.token()
	}
	tests := []struct {
		name, since, why string
	}{
		{"the same moment", now.token(), ""},
		{"an older one", with(func(m *mark) { m.change = tracking + "/9" }), ""},
		{"none", "", whyFirst},
		{"of another host", "qemu1:lb-x:123", whyUnknown},
		{"of another version", strings.Replace(now.token(), tokenPrefix, "vsphere9", 1), whyUnknown},
		{"half of one", now.token()[:20], whyUnknown},
		{"another disk", with(func(m *mark) { m.disk = "6000C29d-ffff" }), whyReplaced},
		{"resized", with(func(m *mark) { m.size++ }), whyResized},
		{"reset", with(func(m *mark) { m.change = "52 00/7" }), whyReset},
		{"reverted", with(func(m *mark) { m.change = tracking + "/82" }), whyBack},
	}
	for _, test := range tests {
		if change, why := base(test.since, now); why != test.why || (why == "") != (change != "") {
			t.Errorf("%s: %q, %q", test.name, change, why)
		}
	}
	untracked := now
	untracked.change = ""
	if change, why := base(now.token(), untracked); change != "" || why == "" || untracked.token() != "" {
		t.Errorf("without tracking: %q, %q, %q", change, why, untracked.token())
	}
}

func FuzzAToken(f *testing.F) {
	f.Add(mark{change: tracking + "/81", disk: "6000C29d-2d1e", size: 1 << 30}.token())
	f.Add("vsphere1|52 00/1||0")
	f.Fuzz(func(t *testing.T, text string) {
		if m, ok := parseToken(text); ok && m.token() == "" {
			t.Errorf("%q is read and cannot be written", text)
		} else if ok {
			if again, ok := parseToken(m.token()); !ok || again != m {
				t.Errorf("%q comes back as %v", text, again)
			}
		}
	})
}
