package rotation_test

import (
	"html"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"lifeboat/rotation"
)

func htmlSheet(t *testing.T, f rotation.SheetFacts) string {
	t.Helper()
	text, err := rotation.RecoverySheetHTML(f)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheCodesOfTheSheetSayWhatIsPrinted(t *testing.T) {
	f := facts(t)
	f.Secret = "tivok lorud penig hujes fobil"
	codes := codesOf(t, htmlSheet(t, f))
	if len(codes) != 2 || codes[1] != f.Secret {
		t.Fatalf("%q", codes)
	}
	for _, want := range []string{f.Drive.ID, f.Drive.Label, f.Programs[0].SHA256, f.Programs[1].SHA256} {
		if !strings.Contains(codes[0], want) {
			t.Errorf("the code lacks %q: %q", want, codes[0])
		}
	}
	f.Secret = ""
	if codes := codesOf(t, htmlSheet(t, f)); len(codes) != 1 {
		t.Errorf("%d codes on a sheet without a secret", len(codes))
	}
	// Longer ones, with letters of more than a byte.
	for _, secret := range []string{"x", "Rückfahrschein Löwe 7 Teekanne", strings.Repeat("an honest sentence ", 8)} {
		f.Secret = secret
		if codes := codesOf(t, htmlSheet(t, f)); len(codes) != 2 || codes[1] != secret {
			t.Errorf("%q became %q", secret, codes)
		}
	}
}

func TestTheSheetAsAPageSaysWhatTheTextSays(t *testing.T) {
	f := facts(t)
	f.Contact = `<b>"Müller" & Söhne</b>`
	page := htmlSheet(t, f)
	if strings.Contains(page, "<b>\"M") || strings.Contains(page, "http") || strings.Contains(page, "<script") || strings.Contains(page, "<link") {
		t.Error("the page holds what it was given as markup, or needs the network")
	}
	words := strings.Join(strings.Fields(html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " "))), " ")
	for _, line := range rotation.Commands(f) {
		if !strings.Contains(words, strings.Join(strings.Fields(line), " ")) {
			t.Errorf("the page lacks the line %q", line)
		}
	}
	compact := strings.ReplaceAll(words, " ", "")
	for _, want := range []string{f.Contact, f.Programs[0].SHA256, f.Programs[1].SHA256, f.Drive.ID, "proves nothing"} {
		if !strings.Contains(compact, strings.ReplaceAll(want, " ", "")) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

var (
	drawing = regexp.MustCompile(`<svg viewBox="0 0 (\d+) \d+".*?</svg>`)
	dot     = regexp.MustCompile(`M(\d+) (\d+)h1v1h-1z`)
)

// codesOf reads the QR codes of a page, in order.
func codesOf(t *testing.T, page string) (texts []string) {
	t.Helper()
	for _, m := range drawing.FindAllStringSubmatch(page, -1) {
		size, _ := strconv.Atoi(m[1])
		c := newQR(size - 8)
		for _, d := range dot.FindAllStringSubmatch(m[0], -1) {
			x, _ := strconv.Atoi(d[1])
			y, _ := strconv.Atoi(d[2])
			c.black[y-4][x-4] = true
		}
		texts = append(texts, c.read(t))
	}
	return texts
}
