package libvirt

import (
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
)

// adoptFirmware takes from what runs which files libvirt chose, where the
// definition left that to it.
func adoptFirmware(config, running *libvirtxml.DomainOS) {
	if config.Loader == nil {
		config.Loader = running.Loader
	}
	if config.NVRam == nil {
		config.NVRam = running.NVRam
	}
}

func firmware(os *libvirtxml.DomainOS) lifeboat.Firmware {
	if !isUEFI(os) {
		return lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}
	}
	return lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI, SecureBoot: secureBoot(os)}
}

// isUEFI: libvirt chose it, or a flash image or variables are named, or the file
// of a firmware without variables is one that distributions give to UEFI.
func isUEFI(os *libvirtxml.DomainOS) bool {
	if os.Firmware != "" {
		return os.Firmware == "efi"
	}
	if os.NVRam != nil {
		return true
	}
	if os.Loader == nil {
		return false
	}
	path := strings.ToLower(os.Loader.Path)
	return os.Loader.Type == "pflash" || strings.Contains(path, "ovmf") || strings.Contains(path, "edk2") || strings.Contains(path, "efi")
}

// secureBoot says that the guest is started by what is signed alone. A firmware
// that could enforce it does so only with keys in its variables: distributions
// name the templates that have some (".ms.", "-ms-", ".secboot.").
func secureBoot(os *libvirtxml.DomainOS) bool {
	if os.FirmwareInfo != nil {
		said := map[string]string{}
		for _, f := range os.FirmwareInfo.Features {
			said[f.Name] = f.Enabled
		}
		if said["secure-boot"] == "no" || said["enrolled-keys"] == "no" {
			return false
		}
		if said["secure-boot"] == "yes" && said["enrolled-keys"] == "yes" {
			return true
		}
	}
	if os.NVRam != nil && os.NVRam.Template != "" {
		return withKeys(os.NVRam.Template)
	}
	return os.Loader != nil && os.Loader.Secure == "yes" && withKeys(os.Loader.Path)
}

func withKeys(path string) bool {
	path = strings.ToLower(path[strings.LastIndexByte(path, '/')+1:])
	return strings.Contains(path, ".ms.") || strings.Contains(path, "-ms-") || strings.Contains(path, "secboot")
}

// nvramPath is the file of the firmware's variables on the host.
func nvramPath(os *libvirtxml.DomainOS) string {
	if os.NVRam == nil {
		return ""
	}
	if s := os.NVRam.Source; s != nil && s.File != nil {
		return s.File.File
	}
	return strings.TrimSpace(os.NVRam.NVRam)
}
