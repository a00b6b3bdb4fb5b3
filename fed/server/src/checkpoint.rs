//! What a server can go on from: one safetensors file, replaced whole after every round.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use privet_core::tensor::{Shape, Tensor, Tensors, Values};
use privet_core::{Code, Reason};
use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::record::{RoundRecord, SiteRecord};

const FILE: &str = "checkpoint.safetensors";

/// State of a workflow after a round: named groups of tensors, and named numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct State {
    pub(crate) tensors: BTreeMap<&'static str, Tensors>,
    pub(crate) numbers: BTreeMap<&'static str, f64>,
}

/// A workflow's state with what was recorded up to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) run: String,
    /// Names what is trained and how: a checkpoint of another job is not gone on from.
    pub(crate) job: String,
    pub(crate) round: u32,
    pub(crate) done: Vec<RoundRecord>,
    pub(crate) sites: BTreeMap<String, SiteRecord>,
    pub(crate) state: State,
}

fn failed(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::StorageFailed, format!("the checkpoint: {error}"))
}

impl Checkpoint {
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Reason> {
        let mut tensors = Vec::new();
        for (group, list) in &self.state.tensors {
            for (name, tensor) in &list.0 {
                tensors.push((format!("{group}/{name}"), Borrowed::new(tensor)));
            }
        }
        let mut metadata = HashMap::from([
            ("run".to_owned(), self.run.clone()),
            ("job".to_owned(), self.job.clone()),
            ("round".to_owned(), self.round.to_string()),
            ("rounds".to_owned(), serde_json::to_string(&self.done).map_err(failed)?),
            ("sites".to_owned(), serde_json::to_string(&self.sites).map_err(failed)?),
        ]);
        for (name, number) in &self.state.numbers {
            metadata.insert(format!("number/{name}"), number.to_string());
        }
        replace(&folder.join(FILE), tensors, Some(metadata))
    }

    /// The checkpoint of a folder, if there is one. `groups` and `numbers` are what the workflow
    /// keeps.
    pub(crate) fn read(
        folder: &Path,
        groups: &[&'static str],
        numbers: &[&'static str],
    ) -> Result<Option<Self>, Reason> {
        let bytes = match std::fs::read(folder.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(failed)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let text = |key: &str| metadata.get(key).ok_or_else(|| failed(format!("no `{key}`")));
        let file = SafeTensors::deserialize(&bytes).map_err(failed)?;
        let mut state = State::default();
        for group in groups {
            let mut tensors = Tensors::default();
            for (name, view) in file.tensors() {
                if let Some(name) = name.strip_prefix(&format!("{group}/")) {
                    let tensor = tensor(view.dtype(), view.shape(), view.data());
                    let tensor = tensor.ok_or_else(|| failed(format!("tensor `{name}`")))?;
                    tensors.0.insert(name.to_owned(), tensor);
                }
            }
            state.tensors.insert(group, tensors);
        }
        for name in numbers {
            let number = text(&format!("number/{name}"))?.parse().map_err(failed)?;
            state.numbers.insert(name, number);
        }
        Ok(Some(Self {
            run: text("run")?.clone(),
            job: text("job")?.clone(),
            round: text("round")?.parse().map_err(failed)?,
            done: serde_json::from_str(text("rounds")?).map_err(failed)?,
            sites: serde_json::from_str(text("sites")?).map_err(failed)?,
            state,
        }))
    }
}

/// Writes a file so that after a crash it is either the old one or the new one, whole.
fn replace<'a, S: AsRef<str> + Ord + std::fmt::Display>(
    path: &Path,
    tensors: impl IntoIterator<Item = (S, Borrowed<'a>)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<(), Reason> {
    let new = path.with_extension("new");
    safetensors::serialize_to_file(tensors, metadata, &new).map_err(failed)?;
    let file = std::fs::File::open(&new).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    // The rename itself is durable once its folder is.
    if let Some(folder) = path.parent()
        && let Ok(folder) = std::fs::File::open(folder)
    {
        folder.sync_all().map_err(failed)?;
    }
    Ok(())
}

/// Writes a model as safetensors.
///
/// # Errors
/// When the file cannot be written.
pub fn write_model(path: &Path, model: &Tensors) -> Result<(), Reason> {
    let tensors = model.0.iter().map(|(name, tensor)| (name, Borrowed::new(tensor)));
    replace(path, tensors, None)
}

/// Reads a model from safetensors; tensors of other types than f32 and f64 are refused.
///
/// # Errors
/// When the file cannot be read, or holds other types.
pub fn read_model(path: &Path) -> Result<Tensors, Reason> {
    let bytes = std::fs::read(path).map_err(failed)?;
    let file = SafeTensors::deserialize(&bytes).map_err(failed)?;
    let mut tensors = Tensors::default();
    for (name, view) in file.tensors() {
        let tensor = tensor(view.dtype(), view.shape(), view.data());
        let tensor =
            tensor.ok_or_else(|| failed(format!("tensor `{name}` is neither f32 nor f64")))?;
        tensors.0.insert(name, tensor);
    }
    Ok(tensors)
}

fn tensor(dtype: Dtype, shape: &[usize], data: &[u8]) -> Option<Tensor> {
    let dims: Vec<u64> = shape.iter().map(|&dim| dim as u64).collect();
    let values = match dtype {
        Dtype::F32 => {
            Values::F32(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
        }
        Dtype::F64 => {
            Values::F64(data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect())
        }
        _ => return None,
    };
    Tensor::new(Shape::new(dims)?, values)
}

/// A tensor as safetensors wants it: its own memory.
struct Borrowed<'a> {
    shape: Vec<usize>,
    values: &'a Values,
}

impl<'a> Borrowed<'a> {
    fn new(tensor: &'a Tensor) -> Self {
        Self {
            shape: tensor.shape().dims().iter().map(|&dim| dim as usize).collect(),
            values: tensor.values(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self.values {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::F64(values) => bytemuck::cast_slice(values),
        }
    }
}

impl View for Borrowed<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
        }
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes().into()
    }
    fn data_len(&self) -> usize {
        self.bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let none = Checkpoint::read(folder.path(), &["model"], &["kept"]).unwrap();
        assert_eq!(none, None);
        let scalar =
            Tensor::new(Shape::new(vec![]).unwrap(), Values::F64(vec![0.1 + 0.2])).unwrap();
        let tensors = Tensors::from_iter([
            ("a/b".to_owned(), Tensor::vector(vec![1.5, -0.0, f32::MIN_POSITIVE])),
            ("s".to_owned(), scalar),
        ]);
        let checkpoint = Checkpoint {
            run: "run".into(),
            job: "job".into(),
            round: 7,
            done: vec![],
            sites: [("north".to_owned(), SiteRecord::default())].into(),
            state: State {
                tensors: [("model", tensors)].into(),
                numbers: [("kept", 0.1 + 0.2)].into(),
            },
        };
        checkpoint.write(folder.path()).unwrap();
        let back = Checkpoint::read(folder.path(), &["model"], &["kept"]).unwrap();
        assert_eq!(back, Some(checkpoint));
    }
}
