package runbook

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"image"
	"image/draw"
	"image/png"
	"regexp"
)

const (
	// maxPicture bounds a screenshot as it lies in a run's folder, and maxPixels what
	// it unpacks to: an 8K screen.
	maxPicture = 16 << 20
	maxPixels  = 8192 * 4320
	// pictureWidth is how wide a screenshot is in a report: letters can be read.
	pictureWidth = 720
	// maxPictures bounds all screenshots of a report together, as text, and maxShots
	// their number: each is taken apart and made anew.
	maxPictures = 24 << 20
	maxShots    = 120
)

// errPicture: a screenshot is not one that is shown.
var errPicture = errors.New("it is not shown")

// picture takes a screenshot apart and makes another of what it shows: nothing of
// the file that a guest or a host made gets into the report.
func picture(data []byte) ([]byte, error) {
	if len(data) > maxPicture {
		return nil, fmt.Errorf("%w: it is larger than %s", errPicture, size(maxPicture))
	}
	head, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: it is no PNG", errPicture)
	}
	if head.Width <= 0 || head.Height <= 0 || head.Width > maxPixels/head.Height {
		return nil, fmt.Errorf("%w: it claims %d x %d points", errPicture, head.Width, head.Height)
	}
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: it is damaged", errPicture)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, smaller(full)); err != nil {
		return nil, fmt.Errorf("%w: %v", errPicture, err)
	}
	return out.Bytes(), nil
}

// smaller is a picture of at most pictureWidth, each of its points the mean of
// those that it stands for. What is transparent is black, as on a screen.
func smaller(full image.Image) image.Image {
	b := full.Bounds()
	flat := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(flat, flat.Bounds(), image.Black, image.Point{}, draw.Src)
	draw.Draw(flat, flat.Bounds(), full, b.Min, draw.Over)
	width, height := b.Dx(), b.Dy()
	if width > pictureWidth {
		width, height = pictureWidth, max(1, height*pictureWidth/width)
	}
	if height > 4*pictureWidth {
		height = 4 * pictureWidth
	}
	if width == b.Dx() && height == b.Dy() {
		return flat
	}
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		top := y * b.Dy() / height
		bottom := max((y+1)*b.Dy()/height, top+1)
		for x := range width {
			left := x * b.Dx() / width
			mean(out.Pix[out.PixOffset(x, y):], flat, image.Rect(left, top, max((x+1)*b.Dx()/width, left+1), bottom))
		}
	}
	return out
}

// mean writes the mean of an area as one point.
func mean(point []byte, p *image.RGBA, area image.Rectangle) {
	var sums [4]int
	for y := area.Min.Y; y < area.Max.Y; y++ {
		row := p.Pix[p.PixOffset(area.Min.X, y) : p.PixOffset(area.Max.X-1, y)+4]
		for i, v := range row {
			sums[i%4] += int(v)
		}
	}
	for i, sum := range sums {
		point[i] = byte(sum / (area.Dx() * area.Dy()))
	}
}

// gallery reads the evidence of a run for its report, within the bounds of one.
type gallery struct {
	record *Record
	file   func(name string) ([]byte, error)
	// used are the bytes of what is shown, and shown how many it is.
	used, shown int
}

// shot is a screenshot in a report: one of the two is set.
type shot struct {
	URI template.URL
	Why string
}

func (g *gallery) shot(name string) shot {
	if name == "" {
		return shot{}
	}
	if g.used > maxPictures || g.shown >= maxShots {
		return shot{Why: "left out: the report has too many pictures; it lies in the run's folder"}
	}
	g.shown++
	data, err := g.read(name)
	if err == nil {
		data, err = picture(data)
	}
	if err != nil {
		return shot{Why: "no picture: " + tidy(err.Error(), 200)}
	}
	text := base64.StdEncoding.EncodeToString(data)
	g.used += len(text)
	return shot{URI: template.URL("data:image/png;base64," + text)}
}

// escapes are the commands to a terminal that consoles are full of.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Za-z0-9]|\x1b[=>78]|\r")

// console is the end of what a machine printed.
func (g *gallery) console(name string) string {
	if name == "" {
		return ""
	}
	data, err := g.read(name)
	if err != nil {
		return ""
	}
	const most = 64 << 10
	data = data[max(0, len(data)-most):]
	return lastLines(tidyLines(escapes.ReplaceAllString(string(data), ""), most), 12)
}

// read is a file of evidence as it was when the record was made.
func (g *gallery) read(name string) ([]byte, error) {
	if g.file == nil {
		return nil, fmt.Errorf("%w: its file is not on this computer", errPicture)
	}
	data, err := g.file(name)
	if err != nil {
		return nil, fmt.Errorf("%w: its file cannot be read", errPicture)
	}
	sum := sha256.Sum256(data)
	if said, sealed := g.record.Files[name]; !sealed || said != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%w: its file is not the one of this record", errPicture)
	}
	return data, nil
}
