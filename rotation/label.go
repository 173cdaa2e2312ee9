package rotation

import (
	"html/template"
	"time"

	"lifeboat"
)

// LabelFacts are what stands on a drive's sticker. There is no company's name on
// it unless the site wants one there, and never what the drive holds: a sticker
// is read by whoever finds the drive.
type LabelFacts struct {
	Drive lifeboat.Drive
	// Contact is who a finder calls.
	Contact     string
	CompanyName string
	// Set is the drive's set in the rotation; empty: in none. Where it is kept is
	// not said to whoever finds it.
	Set   string
	Trial bool
}

// LabelHTML is the sticker as a page of HTML: two of the same, 90 by 50 mm, one
// for the drive and one for its case.
func LabelHTML(f LabelFacts) (string, error) {
	code, err := qrCode(stickerText(f.Drive.Label, f.Drive.ID))
	if err != nil {
		return "", err
	}
	return fillPage("label.html", struct {
		LabelFacts
		Made   string
		Code   template.HTML
		Copies []string
	}{f, f.Drive.CreatedAt.UTC().Format(time.DateOnly), code, []string{"for the drive", "for its case"}})
}
