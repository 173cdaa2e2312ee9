package rotation

import (
	"embed"
	"fmt"
	"html/template"
	"strings"
	"time"

	"rsc.io/qr"
)

//go:embed sheet.html
var sheetFiles embed.FS

var sheetTemplate = template.Must(template.New("sheet.html").Funcs(template.FuncMap{
	"groups": groups,
	"row":    func(text string) bool { return strings.HasPrefix(text, " ") },
	"next":   func(i int) int { return i + 1 },
}).ParseFS(sheetFiles, "sheet.html"))

// sheetPage is what the printed page is filled with.
type sheetPage struct {
	SheetFacts
	Printed       string
	Steps         []step
	Distributions []distribution
	// SecretCode and CheckCode are QR codes: of the secret, and of what tells the
	// right drive and the right program.
	SecretCode, CheckCode template.HTML
}

// RecoverySheetHTML is RecoverySheet as one page of HTML that needs no network,
// prints on A4 and Letter, and shows the secret and the checksums as QR codes
// too.
func RecoverySheetHTML(f SheetFacts) (string, error) {
	p := sheetPage{SheetFacts: f, Steps: recoverySteps(f), Distributions: distributions}
	if !f.PrintedAt.IsZero() {
		p.Printed = f.PrintedAt.UTC().Format(time.DateOnly)
	}
	var err error
	if p.CheckCode, err = qrCode(checkText(f)); err != nil {
		return "", err
	}
	if f.Secret != "" {
		if p.SecretCode, err = qrCode(f.Secret); err != nil {
			return "", err
		}
	}
	var out strings.Builder
	if err := sheetTemplate.Execute(&out, p); err != nil {
		return "", fmt.Errorf("fill the recovery sheet: %w", err)
	}
	return out.String(), nil
}

// checkText is what the second code says: which drive, and which programs.
func checkText(f SheetFacts) string {
	lines := []string{"Lifeboat drive " + f.Drive.Label, f.Drive.ID}
	for _, p := range f.Programs {
		lines = append(lines, "sha256 "+archOf(p), p.SHA256)
	}
	return strings.Join(lines, "\n")
}

// quietZone is the white edge that readers of QR codes need, in modules.
const quietZone = 4

// qrCode draws a text as a QR code of medium redundancy: a crease in the paper
// costs at most 15 per cent.
func qrCode(text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", fmt.Errorf("draw a QR code: %w", err)
	}
	var path strings.Builder
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+quietZone, y+quietZone)
			}
		}
	}
	size := code.Size + 2*quietZone
	// Numbers and letters of this program alone: nothing to escape.
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %d %d" shape-rendering="crispEdges" role="img"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="%s"/></svg>`,
		size, size, size, size, path.String())), nil
}

// groups breaks a checksum into groups of eight, which eyes can compare.
func groups(hash string) string {
	var parts []string
	for len(hash) > 8 {
		parts, hash = append(parts, hash[:8]), hash[8:]
	}
	return strings.Join(append(parts, hash), " ")
}
