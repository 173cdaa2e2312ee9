package hypervisor_test

import (
	"bytes"
	"image/png"
	"testing"

	"lifeboat/hypervisor"
)

func TestAPictureKeepsItsPixels(t *testing.T) {
	data, err := hypervisor.PNGFromPPM([]byte("P6\n2 1\n255\nabcdef"))
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, _ := picture.At(1, 0).RGBA(); r>>8 != 'd' || g>>8 != 'e' || b>>8 != 'f' {
		t.Errorf("the second pixel is %d %d %d", r>>8, g>>8, b>>8)
	}
}

func FuzzPicture(f *testing.F) {
	f.Add([]byte("P6\n2 1\n255\nabcdef"))
	f.Add([]byte("P6 99999999 99999999 255 "))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		_, _ = hypervisor.PNGFromPPM(data)
	})
}
