package hypervisor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
)

// mostPixels bounds a picture: more than any screen that QEMU can show.
const mostPixels = 64 << 20

// PNGFromPPM converts the only form of picture that every QEMU writes: "P6",
// width, height, 255, and three bytes for each pixel. Anything else is refused.
func PNGFromPPM(data []byte) ([]byte, error) {
	r := bufio.NewReader(bytes.NewReader(data))
	var magic string
	var width, height, most int
	if _, err := fmt.Fscan(r, &magic, &width, &height, &most); err != nil {
		return nil, fmt.Errorf("the picture has no header: %w", err)
	}
	if magic != "P6" || most != 255 || width < 1 || height < 1 || width > mostPixels/height {
		return nil, errors.New("the picture is not of the form that QEMU writes")
	}
	if _, err := r.ReadByte(); err != nil {
		return nil, err
	}
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	var pixel [3]byte
	for y := range height {
		for x := range width {
			if _, err := io.ReadFull(r, pixel[:]); err != nil {
				return nil, fmt.Errorf("the picture ends early: %w", err)
			}
			picture.SetNRGBA(x, y, color.NRGBA{pixel[0], pixel[1], pixel[2], 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
