from .checkpoints import load_training as load_training
from .loop import train as train
from .networks import ARCHITECTURES as ARCHITECTURES
from .networks import Classifier as Classifier
from .networks import ResNet18 as ResNet18
from .networks import SmallNet as SmallNet
from .networks import make_classifier as make_classifier
from .result import Training as Training
