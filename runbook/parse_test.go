package runbook

import (
	"os"
	"testing"
	"time"
)

func wholeBook(t *testing.T) (*Book, []byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/good/whole.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse("whole", text)
	if err != nil {
		for _, m := range err.(*Mistakes).All {
			t.Error(m)
		}
		t.FailNow()
	}
	return b, text
}

func TestEveryFieldIsReadAsItStands(t *testing.T) {
	b, text := wholeBook(t)
	if b.Name != "head-office" || b.Period != 90*24*time.Hour || string(b.Text) != string(text) {
		t.Errorf("name %q, period %s", b.Name, b.Period)
	}
}
