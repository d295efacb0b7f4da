//! The H.264 sequence parameter set (ITU-T H.264 §7.3.2.1.1): what a playlist and a timeline need of it.
//!
//! `h264-reader`'s bits are read by an own walk: its `SeqParameterSet` refuses sets that contradict their level
//! or carry a torn VUI, and encoders in the field send both. Here the picture's size must be right; a VUI that
//! makes no sense is as good as none. Every count is capped and reading stops at the first read past the end.

use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader};
use thiserror::Error;

use super::rate::FrameRate;

/// What the house uses of a sequence parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sps {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frame_rate: Option<FrameRate>,
    pub(super) reorder: Option<u32>,
}

/// Why a sequence parameter set was refused.
#[derive(Debug, Error)]
pub enum SpsError {
    /// The bits end, or are no Exp-Golomb code, at this field.
    #[error("sequence parameter set is cut short or torn at {field}")]
    Torn {
        /// The syntax element of §7.3.2.1.1.
        field: &'static str,
    },
    /// A field lies outside the range the standard gives it.
    #[error("sequence parameter set has {field} {value}, the most is {max}")]
    Range {
        /// The syntax element of §7.3.2.1.1.
        field: &'static str,
        /// What it says.
        value: u32,
        /// What it may say.
        max: u32,
    },
    /// The cropping rectangle leaves nothing to show.
    #[error("sequence parameter set crops its {width}x{height} picture away")]
    Cropped {
        /// Coded width in pixels.
        width: u32,
        /// Coded height in pixels.
        height: u32,
    },
}

impl From<BitReaderError> for SpsError {
    fn from(error: BitReaderError) -> Self {
        match error {
            BitReaderError::ReaderError(field, _) | BitReaderError::ExpGolombTooLarge(field) => {
                Self::Torn { field }
            }
            BitReaderError::RemainingData => Self::Torn { field: "rbsp_trailing_bits" },
        }
    }
}

/// Level 6.2 allows 139,264 macroblocks and a side of sqrt(8 x that): §A.3.1 f and g.
const SIDE_MBS_MAX: u32 = 1055;

/// §E.2.1: no more than `MaxDpbFrames`, which never exceeds 16.
const REORDER_MAX: u32 = 16;

impl Sps {
    /// Reads a whole NAL unit, header byte included.
    pub(super) fn parse(nal: &[u8]) -> Result<Self, SpsError> {
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(nal));
        let r = &mut bits;
        let profile: u8 = r.read::<8, _>("profile_idc")?;
        let constraints: u8 = r.read::<8, _>("constraint_set_flags")?;
        r.skip(8, "level_idc")?;
        capped(r, "seq_parameter_set_id", 31)?;
        let chroma = chroma_format(r, profile)?;
        capped(r, "log2_max_frame_num_minus4", 12)?;
        let order_count_type = order_count(r)?;
        r.read_ue("max_num_ref_frames")?;
        r.skip(1, "gaps_in_frame_num_value_allowed_flag")?;
        let width_mbs = capped(r, "pic_width_in_mbs_minus1", SIDE_MBS_MAX - 1)? + 1;
        let height_units = capped(r, "pic_height_in_map_units_minus1", SIDE_MBS_MAX - 1)? + 1;
        let fields = !r.read_bit("frame_mbs_only_flag")?;
        if fields {
            r.skip(1, "mb_adaptive_frame_field_flag")?;
        }
        r.skip(1, "direct_8x8_inference_flag")?;
        let coded = (width_mbs * 16, height_units * 16 * (1 + u32::from(fields)));
        let (width, height) = cropped(r, coded, chroma, fields)?;

        // Nothing after this is worth losing a broadcast for.
        let vui = Vui::read(r).unwrap_or_default();
        Ok(Self {
            width,
            height,
            frame_rate: vui.frame_rate,
            reorder: reorder(profile, constraints, order_count_type, vui.reorder),
        })
    }
}

/// An Exp-Golomb code no larger than `max`.
fn capped(r: &mut impl BitRead, field: &'static str, max: u32) -> Result<u32, SpsError> {
    let value = r.read_ue(field)?;
    if value > max { Err(SpsError::Range { field, value, max }) } else { Ok(value) }
}

/// `chroma_format_idc`, and everything up to the scaling lists that the profiles with it carry.
fn chroma_format(r: &mut impl BitRead, profile: u8) -> Result<u32, SpsError> {
    if !matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        return Ok(1);
    }
    let chroma = capped(r, "chroma_format_idc", 3)?;
    let separate = chroma == 3 && r.read_bit("separate_colour_plane_flag")?;
    capped(r, "bit_depth_luma_minus8", 6)?;
    capped(r, "bit_depth_chroma_minus8", 6)?;
    r.skip(1, "qpprime_y_zero_transform_bypass_flag")?;
    if r.read_bit("seq_scaling_matrix_present_flag")? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if r.read_bit("seq_scaling_list_present_flag")? {
                skip_scaling_list(r, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    // Separate planes are cropped in luma units, as if monochrome (ChromaArrayType 0).
    Ok(if separate { 0 } else { chroma })
}

/// §7.3.2.1.1.1: a list ends early where the next scale becomes 0.
fn skip_scaling_list(r: &mut impl BitRead, size: usize) -> Result<(), SpsError> {
    let mut scale = 8_i32;
    for _ in 0..size {
        scale = scale.wrapping_add(r.read_se("delta_scale")?).rem_euclid(256);
        if scale == 0 {
            break;
        }
    }
    Ok(())
}

/// `pic_order_cnt_type`, past its parameters. The count that once hung an RTMP server for hours is capped at the
/// 255 the standard allows.
fn order_count(r: &mut impl BitRead) -> Result<u32, SpsError> {
    let kind = capped(r, "pic_order_cnt_type", 2)?;
    if kind == 0 {
        capped(r, "log2_max_pic_order_cnt_lsb_minus4", 12)?;
    } else if kind == 1 {
        r.skip(1, "delta_pic_order_always_zero_flag")?;
        r.read_se("offset_for_non_ref_pic")?;
        r.read_se("offset_for_top_to_bottom_field")?;
        for _ in 0..capped(r, "num_ref_frames_in_pic_order_cnt_cycle", 255)? {
            r.read_se("offset_for_ref_frame")?;
        }
    }
    Ok(kind)
}

/// The displayed size: §7.4.2.1.1, `CropUnitX` and `CropUnitY`.
fn cropped(
    r: &mut impl BitRead,
    (width, height): (u32, u32),
    chroma: u32,
    fields: bool,
) -> Result<(u32, u32), SpsError> {
    if !r.read_bit("frame_cropping_flag")? {
        return Ok((width, height));
    }
    let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
    let unit_y = if chroma == 1 { 2 } else { 1 } * (1 + u32::from(fields));
    let mut side = |length: u32, unit: u32, fields: [&'static str; 2]| {
        let [near, far] = [r.read_ue(fields[0])?, r.read_ue(fields[1])?];
        let cut = near.checked_add(far).and_then(|sum| sum.checked_mul(unit));
        let left = cut.and_then(|cut| length.checked_sub(cut)).filter(|left| *left > 0);
        left.ok_or(SpsError::Cropped { width, height })
    };
    let shown_width = side(width, unit_x, ["frame_crop_left_offset", "frame_crop_right_offset"])?;
    let shown_height = side(height, unit_y, ["frame_crop_top_offset", "frame_crop_bottom_offset"])?;
    Ok((shown_width, shown_height))
}

/// How many pictures may be reordered: told by the VUI, or impossible.
fn reorder(profile: u8, constraints: u8, order_count_type: u32, vui: Option<u32>) -> Option<u32> {
    const BASELINE: u8 = 66;
    // §8.2.1.3: type 2 makes output order decode order. §E.2.1: intra profiles infer 0.
    let intra = matches!(profile, 44 | 86 | 100 | 110 | 122 | 244) && constraints & 0b0001_0000 != 0;
    if profile == BASELINE || order_count_type == 2 || intra { Some(0) } else { vui }
}

/// Video usability information, annex E: what of it matters here.
#[derive(Debug, Default)]
struct Vui {
    frame_rate: Option<FrameRate>,
    reorder: Option<u32>,
}

impl Vui {
    fn read(r: &mut impl BitRead) -> Result<Self, SpsError> {
        const EXTENDED_SAR: u8 = 255;
        let mut vui = Self::default();
        if !r.read_bit("vui_parameters_present_flag")? {
            return Ok(vui);
        }
        if r.read_bit("aspect_ratio_info_present_flag")?
            && r.read::<8, u8>("aspect_ratio_idc")? == EXTENDED_SAR
        {
            r.skip(32, "sar_width and sar_height")?;
        }
        if r.read_bit("overscan_info_present_flag")? {
            r.skip(1, "overscan_appropriate_flag")?;
        }
        if r.read_bit("video_signal_type_present_flag")? {
            r.skip(4, "video_format and video_full_range_flag")?;
            if r.read_bit("colour_description_present_flag")? {
                r.skip(24, "colour description")?;
            }
        }
        if r.read_bit("chroma_loc_info_present_flag")? {
            r.read_ue("chroma_sample_loc_type_top_field")?;
            r.read_ue("chroma_sample_loc_type_bottom_field")?;
        }
        if r.read_bit("timing_info_present_flag")? {
            let units_in_tick: u32 = r.read::<32, _>("num_units_in_tick")?;
            let time_scale: u32 = r.read::<32, _>("time_scale")?;
            r.skip(1, "fixed_frame_rate_flag")?;
            // A tick is a field's time: two make a frame (§E.2.1).
            vui.frame_rate = units_in_tick.checked_mul(2).and_then(|den| FrameRate::new(time_scale, den));
        }
        // What follows tells of reordering alone; a tear in it must not lose the frame rate.
        vui.reorder = reorder_frames(r).unwrap_or_default();
        Ok(vui)
    }
}

fn reorder_frames(r: &mut impl BitRead) -> Result<Option<u32>, SpsError> {
    let nal_hrd = skip_hrd(r)?;
    let vcl_hrd = skip_hrd(r)?;
    if nal_hrd || vcl_hrd {
        r.skip(1, "low_delay_hrd_flag")?;
    }
    r.skip(1, "pic_struct_present_flag")?;
    if !r.read_bit("bitstream_restriction_flag")? {
        return Ok(None);
    }
    r.skip(1, "motion_vectors_over_pic_boundaries_flag")?;
    for field in ["max_bytes_per_pic_denom", "max_bits_per_mb_denom", "log2_max_mv_length"] {
        r.read_ue(field)?;
    }
    r.read_ue("log2_max_mv_length_vertical")?;
    capped(r, "max_num_reorder_frames", REORDER_MAX).map(Some)
}

/// §E.1.2. Says whether there was one.
fn skip_hrd(r: &mut impl BitRead) -> Result<bool, SpsError> {
    if !r.read_bit("hrd_parameters_present_flag")? {
        return Ok(false);
    }
    let count = capped(r, "cpb_cnt_minus1", 31)? + 1;
    r.skip(8, "bit_rate_scale and cpb_size_scale")?;
    for _ in 0..count {
        r.read_ue("bit_rate_value_minus1")?;
        r.read_ue("cpb_size_value_minus1")?;
        r.skip(1, "cbr_flag")?;
    }
    r.skip(20, "delay lengths")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use h264_reader::rbsp::{BitWrite, BitWriter, ByteWriter};

    use super::*;

    /// A High profile SPS of 1920x1088 cropped to 1080, with what `vui` writes at its end.
    fn sps(profile: u8, vui: impl FnOnce(&mut BitWriter<ByteWriter<&mut Vec<u8>>>)) -> Vec<u8> {
        let mut nal = vec![0x67];
        let mut w = BitWriter::new(ByteWriter::new(&mut nal));
        for byte in [profile, 0, 40] {
            w.write::<8, u8>(byte).unwrap();
        }
        w.write_ue(0).unwrap();
        if profile == 100 {
            for value in [1, 0, 0] {
                w.write_ue(value).unwrap();
            }
            w.write::<2, u8>(0).unwrap();
        }
        for value in [0, 0, 0, 4] {
            w.write_ue(value).unwrap();
        }
        w.write_bit(false).unwrap();
        w.write_ue(119).unwrap();
        w.write_ue(67).unwrap();
        w.write::<2, u8>(0b11).unwrap();
        w.write_bit(true).unwrap();
        for value in [0, 0, 0, 4] {
            w.write_ue(value).unwrap();
        }
        vui(&mut w);
        w.write_rbsp_trailing_bits().unwrap();
        nal
    }

    fn timing(w: &mut impl BitWrite, units: u32, scale: u32) {
        w.write::<5, u8>(0b10000).unwrap();
        w.write_bit(true).unwrap();
        w.write::<32, u32>(units).unwrap();
        w.write::<32, u32>(scale).unwrap();
        w.write_bit(true).unwrap();
    }

    /// H.264 §7.4.2.1.1: the displayed size is the coded size less the cropping, in chroma units.
    #[test]
    fn cropping_is_taken_off_the_coded_size() {
        let sps = Sps::parse(&sps(100, |w| w.write_bit(false).unwrap())).unwrap();
        assert_eq!((sps.width, sps.height), (1920, 1080));
        assert_eq!((sps.frame_rate, sps.reorder), (None, None));
    }

    /// H.264 §E.2.1: `time_scale` counts fields, reordering is told by the bitstream restriction.
    #[test]
    fn the_vui_tells_rate_and_reordering() {
        let nal = sps(77, |w| {
            timing(w, 1001, 60_000);
            w.write::<4, u8>(0b0001).unwrap();
            w.write_bit(true).unwrap();
            for value in [0, 0, 11, 11, 2, 4] {
                w.write_ue(value).unwrap();
            }
        });
        let sps = Sps::parse(&nal).unwrap();
        assert_eq!(sps.frame_rate, FrameRate::new(30_000, 1001));
        assert_eq!(sps.reorder, Some(2));
    }

    /// H.264 §A.2.1: baseline has no B slices.
    #[test]
    fn baseline_does_not_reorder() {
        assert_eq!(Sps::parse(&sps(66, |w| w.write_bit(false).unwrap())).unwrap().reorder, Some(0));
    }

    #[test]
    fn a_torn_vui_loses_only_itself() {
        let mut nal = sps(77, |w| timing(w, 1, 50));
        nal.truncate(nal.len() - 1);
        let sps = Sps::parse(&nal).unwrap();
        assert_eq!((sps.width, sps.height, sps.reorder), (1920, 1080, None));
    }

    /// The 50-byte header that hangs a server which believes `num_ref_frames_in_pic_order_cnt_cycle`.
    #[test]
    fn a_count_of_four_billion_is_refused() {
        let mut nal = vec![0x67];
        let mut w = BitWriter::new(ByteWriter::new(&mut nal));
        for byte in [66_u8, 0, 30] {
            w.write::<8, u8>(byte).unwrap();
        }
        for value in [0, 0, 1] {
            w.write_ue(value).unwrap();
        }
        w.write_bit(false).unwrap();
        for value in [0, 0, u32::MAX - 2] {
            w.write_ue(value).unwrap();
        }
        w.write_rbsp_trailing_bits().unwrap();
        let error = Sps::parse(&nal).unwrap_err();
        assert!(matches!(error, SpsError::Range { field: "num_ref_frames_in_pic_order_cnt_cycle", .. }));
    }

    #[test]
    fn a_picture_beyond_level_6_2_or_cropped_away_is_refused() {
        for (width, crop) in [(u32::MAX - 2, 0), (1055, 0), (0, 8), (0, u32::MAX - 2)] {
            let mut nal = vec![0x67];
            let mut w = BitWriter::new(ByteWriter::new(&mut nal));
            for byte in [66_u8, 0, 30] {
                w.write::<8, u8>(byte).unwrap();
            }
            for value in [0, 0, 2, 1] {
                w.write_ue(value).unwrap();
            }
            w.write_bit(false).unwrap();
            w.write_ue(width).unwrap();
            w.write_ue(0).unwrap();
            w.write::<3, u8>(0b111).unwrap();
            for value in [crop, 0, 0, 0] {
                w.write_ue(value).unwrap();
            }
            w.write_rbsp_trailing_bits().unwrap();
            let error = Sps::parse(&nal).unwrap_err();
            assert!(matches!(error, SpsError::Range { .. } | SpsError::Cropped { .. }), "{width} {crop}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(nal in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Sps::parse(&nal);
        }

        #[test]
        fn a_mutated_set_ends(at in 1_usize..40, flip in 1_u8..) {
            let mut nal = sps(100, |w| timing(w, 1, 50));
            let at = at % nal.len();
            nal[at] ^= flip;
            if let Ok(sps) = Sps::parse(&nal) {
                proptest::prop_assert!(sps.width <= 16_880 && sps.height <= 33_760);
            }
        }
    }
}
