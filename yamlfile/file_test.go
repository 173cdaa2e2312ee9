package yamlfile_test

import (
	"strings"
	"testing"

	"lifeboat/yamlfile"
)

// TestAFileThatNobodyMeantWellIsRefusedWithItsLine: each of these would cost memory
// or time without bounds, or mean another thing than it says.
func TestAFileThatNobodyMeantWellIsRefusedWithItsLine(t *testing.T) {
	laughs := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 8; i++ {
		at, before := string(rune('0'+i)), string(rune('0'+i-1))
		laughs += "a" + at + ": &a" + at + " [" + strings.Repeat("*a"+before+",", 9) + "*a" + before + "]\n"
	}
	for name, c := range map[string]struct{ text, want string }{
		"not YAML":            {"a: 1\nb: [", "not YAML"},
		"two documents":       {"a: 1\n---\nb: 2\n", "line 2: a second document"},
		"aliases of aliases":  {laughs, "with what aliases stand for"},
		"an alias for itself": {"a: &a\n  b: *a\n", "an alias stands for itself"},
		"a tag":               {"a: 1\nb: !!binary aGk=\n", "line 2: the tag"},
		"too deep":            {strings.Repeat("[", 40) + strings.Repeat("]", 40), "levels deep"},
		"too long":            {"a: " + strings.Repeat("x", yamlfile.SizeLimit), "longer than 1024 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			n, mistakes := yamlfile.Read([]byte(c.text))
			if n != nil || len(mistakes) != 1 || !strings.Contains(mistakes[0].String(), c.want) {
				t.Errorf("%v, %v; want %q", n, mistakes, c.want)
			}
		})
	}
	for _, empty := range []string{"", "# a remark\n"} {
		if n, mistakes := yamlfile.Read([]byte(empty)); n != nil || mistakes != nil {
			t.Errorf("%q: %v, %v", empty, n, mistakes)
		}
	}
}

func TestTheNearestWordIsProposedWhereItIsNear(t *testing.T) {
	known := []string{"machines", "networks", "steps", "objectives"}
	for typed, want := range map[string]string{
		"machine": "machines", "Netwroks": "networks", "stpes": "steps", "objektives": "objectives", "zebra": "", "": "",
		strings.Repeat("steps", 100): "",
	} {
		if got := yamlfile.Nearest(typed, known); got != want {
			t.Errorf("%q: %q, not %q", typed, got, want)
		}
	}
}
